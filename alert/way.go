package alert

import "slices"

// way says how lines come: by an input and, of those that another tailwater has shipped
// to Kafka, by which of its inputs before ("" for others).
type way struct {
	input  string
	kafka  bool
	before string
}

// leadsTo tells whether a rule that names those inputs is to see the lines. One that
// names the input before, too, has counted them there.
func (w way) leadsTo(named []string) bool {
	if len(named) == 0 {
		return !w.kafka
	}
	return slices.Contains(named, w.input) && (w.before == "" || !slices.Contains(named, w.before))
}
