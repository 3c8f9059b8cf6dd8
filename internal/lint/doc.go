// Package lint holds the project's own rules as tests, for what gofmt, vet and staticcheck don't know. It has no code.
package lint
