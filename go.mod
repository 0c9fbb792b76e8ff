module github.com/tailwater/tailwater

go 1.26
