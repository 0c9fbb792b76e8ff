package record

// Level is the severity of an event, the coarse five that all sources map onto.
type Level uint8

// The levels in rising severity. LevelNone is an event without a level: an access
// line, or a word that nobody knows. It is always kept.
const (
	LevelNone Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
	LevelFatal
	levels
)

// Levels is the number of values of Level, for arrays indexed by it.
const Levels = int(levels)

var levelNames = [Levels]string{"", "debug", "info", "warn", "error", "fatal"}

// String returns the name as it stands in documents and in the configuration.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return ""
}

// LevelNamed returns the level with exactly this name ("warn", not "WARNING").
func LevelNamed(name string) (Level, bool) {
	for l := LevelDebug; l < levels; l++ {
		if levelNames[l] == name {
			return l, true
		}
	}
	return LevelNone, false
}
