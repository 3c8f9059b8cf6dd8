package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type markdownHelpCmd struct{}

func (markdownHelpCmd) Run(c *console) error {
	w := bufio.NewWriter(c.out)
	fmt.Fprintf(w, "# %s\n\n%s\n\n", c.model.Name, c.model.Help)
	markdownFlags(w, c.model.Flags)
	for _, n := range c.model.Children {
		if n.Hidden {
			continue
		}
		fmt.Fprintf(w, "\n## %s %s\n\n%s\n\n", c.model.Name, n.Summary(), n.Help)
		for _, p := range n.Positional {
			fmt.Fprintf(w, "* `%s` %s\n", p.Summary(), p.Help)
		}
		markdownFlags(w, n.Flags)
	}
	return w.Flush()
}

func markdownFlags(w *bufio.Writer, flags []*kong.Flag) {
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		usage := "--" + f.Name
		if !f.IsBool() {
			usage += "=" + f.FormatPlaceHolder()
		}
		fmt.Fprintf(w, "* `%s` %s\n", usage, strings.TrimSpace(f.Help))
	}
}
