package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"

	"github.com/tailwater/tailwater/internal/schema"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/source/tail"
)

// checks are what the check tags name. Each error says what is wrong with the value
// and what to write.
var checks = map[string]func(string) error{
	"name":     checkName,
	"field":    checkFieldName,
	"label":    checkLabel,
	"glob":     checkGlob,
	"exclude":  checkExclude,
	"regex":    checkRegex,
	"captures": checkCaptures,
	"path":     checkTemplate(sink.PathNaming),
	"topic":    checkTemplate(sink.TopicNaming),
	"topics":   checkTopics,
	"index":    checkTemplate(sink.IndexNaming),
	"key":      checkRecordKey,
	"broker":   checkBroker,
	"hook":     checkHook,
	"url":      checkURL,
	"listen":   checkListen,
	"address":  checkAddress,
	"syslog":   checkSyslogAddress,
	"metadata": checkMetadata,
	"zone":     checkZone,
	"clock":    checkClock,
	"encoding": checkEncoding,

	"namespace":  checkNamespace,
	"podlabel":   checkPodLabel,
	"fleettopic": checkFleetTopic,
}

var (
	legalName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	legalField = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)
)

// checkName: names stand in metrics, in file names of the state and in commands.
func checkName(s string) error {
	if !legalName.MatchString(s) {
		return fmt.Errorf("%q is no name; write letters, digits, '-', '_' and '.', at most 64, a letter or digit first", s)
	}
	return nil
}

// ownFields are the keys of a document that the configuration cannot set, with the
// place that does.
var ownFields = map[string]string{
	"@timestamp": "it is the line's time", "id": "tailwater makes it", "offset": "it is the line's place", "file": "it is the line's file",
	"host": "write host: at the top level", "input": "it is the input's name", "project": "write project: in the input",
	"level": "it is the line's level", "message": "it is the line's message",
	"parse_error": "tailwater sets it", "partial": "tailwater sets it", "truncated": "tailwater sets it",
}

func checkFieldName(s string) error {
	if why, own := ownFields[s]; own {
		return fmt.Errorf("%q is a field of tailwater's own (%s); choose another name", s, why)
	}
	if !legalField.MatchString(s) {
		return fmt.Errorf("%q is no name of a field; write letters, digits, '_', '.' and '-', a letter first", s)
	}
	return nil
}

// checkGlob leaves the pattern to the stage that will look for its files.
func checkGlob(s string) error {
	g, err := tail.ParseGlob(s)
	if err != nil {
		return err
	}
	for _, name := range g.Names() {
		if name == "project" {
			continue
		}
		if err := checkFieldName(name); err != nil {
			return fmt.Errorf("{%s}: %w", name, err)
		}
	}
	return nil
}

var placeholder = regexp.MustCompile(`\{[^{},/]*\}`)

func checkExclude(s string) error {
	if m := placeholder.FindString(s); m != "" {
		return fmt.Errorf("%s captures %s, which an exclude cannot; write * in its place", s, m)
	}
	return tail.CheckExclude(s)
}

func checkRegex(s string) error {
	if _, err := regexp.Compile(s); err != nil {
		return regexAdvice(s, err)
	}
	return nil
}

var lookAround = regexp.MustCompile(`^\(\?<?[=!]`)

func regexAdvice(s string, err error) error {
	why := err.Error()
	if se := (*syntax.Error)(nil); errors.As(err, &se) {
		why = string(se.Code)
		if se.Expr != "" && se.Expr != s {
			why += fmt.Sprintf(" at column %d: %s", strings.Index(s, se.Expr)+1, se.Expr)
		}
		if lookAround.MatchString(se.Expr) {
			why = "look-around such as (?=x) and (?<!x) is not known to Go's regexes (RE2)"
		}
	}
	return fmt.Errorf("regex '%s': %s", s, why)
}

func checkCaptures(s string) error {
	re, err := regexp.Compile(s)
	if err != nil {
		return regexAdvice(s, err)
	}
	if !slices.ContainsFunc(re.SubexpNames(), func(name string) bool { return name != "" }) {
		return fmt.Errorf("regex '%s' captures nothing; name what becomes a field, as in (?P<message>.*)", s)
	}
	return nil
}

func checkTemplate(naming sink.Naming) func(string) error {
	return func(s string) error {
		_, err := sink.Compile(s, naming)
		return err
	}
}

// checkRecordKey: a key that is the same for all would mean nothing, and is mostly a
// field's name without its braces.
func checkRecordKey(s string) error {
	if !strings.ContainsAny(s, "{}") {
		return fmt.Errorf("%q would be the key of every record; write '{%s}' for the field of that name", s, s)
	}
	return checkTemplate(sink.TopicNaming)(s)
}

func checkBroker(s string) error {
	host, port, err := net.SplitHostPort(s)
	if n, bad := strconv.Atoi(port); err != nil || host == "" || bad != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q is not the address of a broker; write HOST:PORT, as in kafka1:9092", s)
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q is not a URL; write http://HOST:PORT or https://HOST:PORT", s)
	}
	if u.User != nil {
		return errors.New("a URL holds a password, which would show in logs; write user: and password: instead")
	}
	return nil
}

// checkHook is checkURL for an address that is a secret itself: no message shows a part of it.
func checkHook(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("not a URL; write https://HOST/PATH, as the other side shows it")
	}
	if u.User != nil {
		return errors.New("a user stands in the URL; use a webhook, and write headers: {Authorization: 'Basic ..'} instead")
	}
	return nil
}

func checkListen(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, err := strconv.Atoi(s); err == nil {
			return fmt.Errorf("%q is a port alone; write 127.0.0.1:%s for this host, or :%s for everybody", s, s, s)
		}
		return fmt.Errorf("%q is not an address; write HOST:PORT, as in 127.0.0.1:9600, or '' for none", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port from 0 to 65535; write HOST:PORT, as in 127.0.0.1:9600", s)
	}
	if strings.ContainsAny(host, "/ \t") {
		return fmt.Errorf("%q is not an address; write HOST:PORT, as in 127.0.0.1:9600", s)
	}
	return nil
}

func checkMetadata(s string) error {
	if s == "auto" || s == "none" {
		return nil
	}
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" {
		return fmt.Errorf("%q is neither auto nor none nor the address of a metadata service; write http://HOST:PORT", s)
	}
	return nil
}

func checkZone(s string) error {
	_, err := loadZone(s)
	return err
}

// encodings are the ones that people look for, for suggestions.
var encodings = []string{"utf-8", "utf-16le", "utf-16be", "gbk", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr", "windows-1252", "windows-1251", "iso-8859-1", "koi8-r"}

func checkEncoding(s string) error {
	e, err := htmlindex.Get(s)
	if err == nil && e != encoding.Replacement {
		return nil
	}
	if near, ok := schema.Nearest(s, encodings); ok {
		return fmt.Errorf("there is no encoding %q; did you mean %q?", s, near)
	}
	return fmt.Errorf("there is no encoding %q; write a name of the web, such as %s", s, strings.Join(encodings[:6], ", "))
}
