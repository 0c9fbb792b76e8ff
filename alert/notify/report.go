package notify

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/tailwater/tailwater/record"
)

// Report is what a day was like: how many lines of each group counted.
type Report struct {
	// ID is the report's name and day; a report is sent once under it.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Count is what was counted, in the words of the configuration; Day a calendar day
	// (2006-01-02) of Zone.
	Count string `json:"count"`
	Day   string `json:"day"`
	Zone  string `json:"zone"`
	// Host is the host that speaks of itself alone; "" for the fleet.
	Host string `json:"host,omitempty"`
	// Over is the limit above which a group is marked; 0: none.
	Over int64 `json:"over,omitempty"`
	// Total are the lines of all groups, Before those of the day before; -1: not known.
	Total  int64 `json:"total"`
	Before int64 `json:"before"`
	// Rows are the groups, the one with the most lines first, and More is how many
	// groups are left out.
	Rows []ReportRow `json:"rows,omitempty"`
	More int         `json:"more,omitempty"`
	// Remarks say what the numbers may lack.
	Remarks []string `json:"remarks,omitempty"`
}

// ReportRow is one group of a report.
type ReportRow struct {
	Group  []record.KeyValue `json:"group,omitempty"`
	Lines  int64             `json:"lines"`
	Before int64             `json:"before"` // the day before; -1: not known
	Over   bool              `json:"over,omitempty"`
	// Top are the most frequent messages, with a * for what differs from one to the
	// next.
	Top []ReportPattern `json:"top,omitempty"`
}

// ReportPattern is a message without what differs, and how many lines at least said it.
type ReportPattern struct {
	Text  string `json:"text"`
	Lines int64  `json:"lines"`
}

// Title is the report in one line.
func (r *Report) Title() string {
	where := ""
	if r.Host != "" {
		where = " on " + r.Host
	}
	title := fmt.Sprintf("[REPORT] %s of %s%s: %d %s", r.Name, r.Day, where, r.Total, oneLine(r.Count, 80))
	if c := Change(r.Total, r.Before); c != "" {
		title += " (" + c + ")"
	}
	return title
}

// brief is the report without its rows, for the history.
func (r *Report) brief() *Report {
	b := *r
	b.Rows, b.More = nil, 0
	return &b
}

// Change is the difference to the day before, as people read it; "" when that is not
// known.
func Change(now, before int64) string {
	switch {
	case before < 0:
		return ""
	case now == before:
		return "±0%"
	case before == 0:
		return "new"
	}
	return fmt.Sprintf("%+.0f%%", math.Round(100*float64(now-before)/float64(before)))
}

// Label is the group in one cell: its only value, or all with their names.
func (row *ReportRow) Label() string {
	switch len(row.Group) {
	case 0:
		return "all"
	case 1:
		if v := oneLine(row.Group[0].Value, 100); v != "" {
			return v
		}
		return "(without)"
	}
	parts := make([]string, len(row.Group))
	for i, g := range row.Group {
		parts[i] = g.Key + "=" + oneLine(g.Value, 100)
	}
	return strings.Join(parts, " ")
}

// Change is the row's difference to the day before.
func (row *ReportRow) Change() string { return Change(row.Lines, row.Before) }

// What names the column of the groups.
func (r *Report) What() string {
	if len(r.Rows) > 0 && len(r.Rows[0].Group) == 1 {
		return r.Rows[0].Group[0].Key
	}
	return "group"
}

// known writes a number of the day before.
func known(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// Yesterday is the day before's number of a row.
func (row *ReportRow) Yesterday() string { return known(row.Before) }

// Yesterday is the day before's number of all groups.
func (r *Report) Yesterday() string { return known(r.Before) }

// Change is the total's difference to the day before.
func (r *Report) Change() string { return Change(r.Total, r.Before) }

// plain is the report as a text with columns.
func (r *Report) plain(limit int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s on %s (%s)", r.Name, oneLine(r.Count, 200), r.Day, r.Zone)
	if r.Host != "" {
		fmt.Fprintf(&b, ", host %s", r.Host)
	}
	b.WriteString("\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "lines\tday before\tchange\t  %s\n", r.What())
	for i := range r.Rows {
		row := &r.Rows[i]
		mark := ""
		if row.Over {
			mark = fmt.Sprintf("  (over %d)", r.Over)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t  %s%s\n", row.Lines, row.Yesterday(), row.Change(), row.Label(), mark)
	}
	fmt.Fprintf(t, "%d\t%s\t%s\t  total\n", r.Total, known(r.Before), Change(r.Total, r.Before))
	t.Flush()
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more groups\n", r.More)
	}
	for _, remark := range r.Remarks {
		b.WriteString("note: " + remark + "\n")
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		for j, p := range row.Top {
			if j == 0 {
				b.WriteString("\nmost frequent of " + row.Label() + "\n")
			}
			fmt.Fprintf(&b, "%8d  %s\n", p.Lines, oneLine(p.Text, 200))
		}
	}
	return cut(b.String(), limit)
}

// markdown is the report for chats, where columns do not hold.
func (r *Report) markdown(limit int) string {
	var b strings.Builder
	var st markdown
	b.WriteString(st.heading(r.Title()))
	for i := range r.Rows {
		row := &r.Rows[i]
		line := fmt.Sprintf("%s: %d", row.Label(), row.Lines)
		if c := row.Change(); c != "" {
			line += fmt.Sprintf(" (%s, day before %d)", c, row.Before)
		}
		if row.Over {
			line += fmt.Sprintf(", over %d", r.Over)
		}
		next := st.line("", line)
		for _, p := range row.Top {
			next += st.code(strconv.FormatInt(p.Lines, 10)+" ", oneLine(p.Text, 200))
		}
		if b.Len()+len(next) > limit-64 {
			b.WriteString(st.line("", fmt.Sprintf("and %d more groups", r.More+len(r.Rows)-i)))
			return b.String()
		}
		b.WriteString(next)
	}
	if r.More > 0 {
		b.WriteString(st.line("", fmt.Sprintf("and %d more groups", r.More)))
	}
	for _, remark := range r.Remarks {
		if next := st.line("note", remark); b.Len()+len(next) <= limit {
			b.WriteString(next)
		}
	}
	return b.String()
}
