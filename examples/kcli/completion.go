package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (s *completionCmd) Run(c *console) error {
	_, err := io.WriteString(c.out, map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[s.Shell])
	return err
}

// The scripts ask kcli itself: it prints a candidate a line, and after a tab what it is.
const (
	bashScript = `# source <(kcli completion bash)
_kcli() {
	# bash cuts words at = and : too, and replaces only what is after the last of them
	local line words last cur=${COMP_WORDS[COMP_CWORD]}
	read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
	[[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=("")
	last=${words[-1]}
	[[ $cur == [=:] ]] && cur=
	COMPREPLY=()
	while IFS= read -r line; do
		line=${line%%$'\t'*}
		COMPREPLY+=("$(printf %q "${line#"${last%"$cur"}"}")")
	done < <("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _kcli kcli
`
	zshScript = `#compdef kcli
# source <(kcli completion zsh), or put it into a file _kcli in $fpath
_kcli() {
	local line
	local -a candidates
	while IFS= read -r line; do
		line=${line//:/\\:}
		candidates+=("${line/$'\t'/:}")
	done < <("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
	if (( $#candidates )); then
		_describe -V kcli candidates
	else
		_default
	fi
}
if [[ ${funcstack[1]} == _kcli ]]; then
	_kcli "$@"
else
	compdef _kcli kcli
fi
`
	fishScript = `# kcli completion fish | source
function __kcli_complete
	set -l words (commandline -opc) (commandline -ct)
	kcli complete -- $words[2..-1] 2>/dev/null
end
complete -c kcli -f -a '(__kcli_complete)'
`
)

// completeCmd prints what the last of the words may become.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:"all"`
}

func (s *completeCmd) Run(ctx context.Context, c *console) error {
	words := s.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	last := ""
	if len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	for _, cand := range c.candidates(ctx, words, last) {
		if !strings.HasPrefix(cand.text, last) {
			continue
		}
		if cand.help != "" {
			cand.text += "\t" + cell(cand.help)
		}
		if _, err := fmt.Fprintln(c.out, cand.text); err != nil {
			return err
		}
	}
	return nil
}

type candidate struct{ text, help string }

// commandLine is what the words of an unfinished command line have said so far.
type commandLine struct {
	node    *kong.Node // the command; the program itself where none is named yet
	flags   []*kong.Flag
	used    map[string]bool
	waiting *kong.Flag // for its value, which is the next word
}

func (l *commandLine) flag(name string) *kong.Flag {
	if i := slices.IndexFunc(l.flags, func(f *kong.Flag) bool { return f.Name == name }); i >= 0 {
		return l.flags[i]
	}
	return nil
}

// readLine reads words as far as they are understood.
func (c *console) readLine(words []string) *commandLine {
	l := &commandLine{node: c.model.Node, flags: c.model.Flags, used: make(map[string]bool)}
	for _, w := range words {
		switch {
		case l.waiting != nil:
			c.obey(l.waiting, w)
			l.waiting = nil
		case strings.HasPrefix(w, "--"):
			name, value, hasValue := strings.Cut(w[2:], "=")
			switch f := l.flag(name); {
			case f == nil:
			case hasValue:
				c.obey(f, value)
			case !f.IsBool():
				l.waiting = f
			}
			l.used[name] = true
		case l.node == c.model.Node:
			if i := slices.IndexFunc(l.node.Children, func(n *kong.Node) bool { return n.Name == w }); i >= 0 {
				l.node = l.node.Children[i]
				l.flags = append(slices.Clone(l.flags), l.node.Flags...)
			}
		}
	}
	return l
}

// candidates are the words that may come after others, where the last has begun: values of a flag, flags, or commands.
func (c *console) candidates(ctx context.Context, words []string, last string) (all []candidate) {
	l := c.readLine(words)
	switch {
	case l.waiting != nil:
		return c.values(ctx, l.node, l.waiting.Value)
	case strings.HasPrefix(last, "--") && strings.Contains(last, "="):
		name, _, _ := strings.Cut(last[2:], "=")
		if f := l.flag(name); f != nil {
			for _, v := range c.values(ctx, l.node, f.Value) {
				all = append(all, candidate{"--" + name + "=" + v.text, v.help})
			}
		}
	case strings.HasPrefix(last, "-"):
		for _, f := range l.flags {
			if !f.Hidden && (!l.used[f.Name] || f.IsSlice() || f.IsMap()) {
				all = append(all, candidate{"--" + f.Name, f.Help})
			}
		}
	case l.node == c.model.Node:
		for _, n := range l.node.Children {
			if !n.Hidden {
				all = append(all, candidate{n.Name, n.Help})
			}
		}
	case len(l.node.Positional) > 0:
		return c.values(ctx, l.node, l.node.Positional[0])
	}
	return all
}

// obey heeds the flag that matters to completion itself: the daemon to ask.
func (c *console) obey(f *kong.Flag, value string) {
	var e endpoint
	if f.Name == "endpoint" && e.UnmarshalText([]byte(value)) == nil {
		c.api = &client{e.url, c.api.http}
	}
}

// completionTime bounds how long a person who pressed tab waits for the daemon.
const completionTime = 2 * time.Second

// values are those of an enumeration, or what the daemon lists.
func (c *console) values(ctx context.Context, node *kong.Node, v *kong.Value) (all []candidate) {
	if v.Enum != "" {
		for _, e := range v.EnumSlice() {
			all = append(all, candidate{text: e})
		}
	}
	path := map[string]string{"bounce-cancel": bouncePath, "suspend-cancel": suspendPath, "suspend-ready-q-cancel": suspendReadyQPath}[node.Name]
	if path == "" || v.Name != "id" {
		return all
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	var entries []struct {
		ID     string `json:"id"`
		Reason string `json:"reason"`
	}
	b, err := c.api.read(ctx, "GET", path, nil, nil)
	if err != nil || json.Unmarshal(b, &entries) != nil {
		return nil // whoever waits for a completion can't use an error
	}
	for _, e := range entries {
		all = append(all, candidate{cell(e.ID), e.Reason})
	}
	return all
}
