module github.com/tailwater/tailwater

go 1.26.0

require (
	github.com/bmatcuk/doublestar/v4 v4.10.4
	golang.org/x/text v0.43.0
	gopkg.in/yaml.v3 v3.0.1
)
