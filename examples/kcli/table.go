package main

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// table is printed in columns that are as wide as their widest cell, with a space between them.
type table struct {
	indent string
	head   []column
	rows   [][]string
}

type column struct {
	title string
	right bool // for numbers
}

// left and right make the heads of columns.
func left(title string) column  { return column{title, false} }
func right(title string) column { return column{title, true} }

// add adds a row; cells are made printable.
func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = cell(c)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) print(w io.Writer) error {
	width := make([]int, len(t.head))
	for i, h := range t.head {
		width[i] = len(h.title)
		for _, row := range t.rows {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	b := bufio.NewWriter(w)
	titles := make([]string, len(t.head))
	for i, h := range t.head {
		titles[i] = h.title
	}
	t.line(b, width, titles)
	for _, row := range t.rows {
		t.line(b, width, row)
	}
	return b.Flush()
}

func (t *table) line(b *bufio.Writer, width []int, cells []string) {
	b.WriteString(t.indent)
	for i, c := range cells {
		if i > 0 {
			b.WriteByte(' ')
		}
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
		if t.head[i].right {
			b.WriteString(pad)
			b.WriteString(c)
		} else {
			b.WriteString(c)
			b.WriteString(pad)
		}
	}
	b.WriteByte('\n')
}
