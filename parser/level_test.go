package parser

import (
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

func TestLevelsOfAllLoggers(t *testing.T) {
	for level, words := range map[record.Level]string{
		record.LevelDebug: "debug trace verbose fine finer finest dbg trc dbug trce DEBU TRAC silly DEBUG-4 DEBUG+3 TRACE debug1 7 10 20 100 5000 10000",
		record.LevelInfo:  "info notice config inf information informational success note INFO+2 DEBUG+5 WARN-1 5 6 30 39 200 250 20000",
		record.LevelWarn:  "warn warning wrn INFO+4 WARN+3 ERROR-1 4 40 300 30000",
		record.LevelError: "error err eror erro severe fail ERROR+4 3 50 400 40000",
		record.LevelFatal: "fatal critical crit emerg emergency alert panic dpanic ftl fata pani 0 1 2 60 500 550 600",
		record.LevelNone:  "failed errors i e warns debugger infos none 8 9 70 99 120 1000 -1 +1 5x 99999999999999 INFO+ INFO-x info+123 FATAL+1 all off",
	} {
		for word := range strings.FieldsSeq(words) {
			for _, form := range []string{word, strings.ToUpper(word), strings.ToLower(word)} {
				got, ok := ParseLevel([]byte(form))
				if got != level || ok != (level != record.LevelNone) {
					t.Errorf("%q is %v %v, want %v", form, got, ok, level)
				}
			}
		}
	}
	if _, ok := ParseLevel(nil); ok {
		t.Error("nothing is a level")
	}
	word := []byte("WARNING")
	if a := testing.AllocsPerRun(100, func() { ParseLevel(word) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func BenchmarkParseLevel(b *testing.B) {
	words := [][]byte{[]byte("info"), []byte("WARNING"), []byte("error"), []byte("30"), []byte("customer")}
	b.ReportAllocs()
	for b.Loop() {
		for _, w := range words {
			ParseLevel(w)
		}
	}
}
