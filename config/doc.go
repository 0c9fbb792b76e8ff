// Package config reads the configuration file: YAML into Config, strictly, with every
// problem of the file at once, each with its line and with what to write instead.
//
// The structs and their tags are the whole truth about the file: what can be written,
// what it means, what an absent key means. docs/configuration.md is made from them.
//
// A new kind of input, output or format is one struct and one line: a field with a
// kind tag in Input, Output or Format.
package config
