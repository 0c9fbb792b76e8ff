// Package schema decodes YAML into Go structs by their field tags, strictly: it
// finds every problem of a file at once, each with its line and with what to write
// instead, and it describes the same structs for the reference manual.
//
// The tags of a field:
//
//	yaml:"key"        the key; ",name" is the key of the map whose value the struct
//	                  is; "key,scalar" may also be written as the bare value
//	default:"10s"     what an absent key means, as it would stand in the file
//	unset:"…"         what an absent key means, where that is not a value
//	required:"yes"    the key must be there, and a text not empty
//	kind:"…"          exactly one of the struct's fields with this tag must be there;
//	                  the tag's text names the thing that is of exactly one kind
//	only:"a b"        the key belongs to these kinds alone
//	oneof:"a b c"     the values that a text may have
//	min:"0" max:"1"   bounds of a number, a size, a duration, a list's length
//	check:"name"      a function of Options.Checks that each value must pass
//	ref:"section"     each value is a name defined in that section of the file
//	expand:"no"       ${…} stands for itself
//	also:"path"       what other programs call the key, for suggestions
//	doc:"…"           one sentence for the manual
//	example:"…"       a value, as it would stand in the file
//
// A slice of structs that have a ",name" field is a map in the file, and keeps the
// file's order. A list of texts with one element may be written without brackets.
// A struct with a method Check(problem func(key, text string)) is asked what else is
// wrong with it, once its values are good, and one with a method Advise(warning ..) of the
// same form what is allowed but not advisable, once nothing is wrong.
//
// Invariants:
//   - No problem quotes an expanded text or a secret.
//   - No YAML document, however hostile, makes it panic, recurse without end or work
//     more than in proportion to its length.
package schema
