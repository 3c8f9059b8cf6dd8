package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// explainPrinter writes an explanation for people: first what they most likely want to know, then why.
type explainPrinter struct {
	w   io.Writer
	now time.Time // of the daemon
	all bool      // with what is left at its default
}

func (p *explainPrinter) print(e *explanation) {
	p.entry("", "queue", e.Queue)
	if e.Scheduled != nil {
		p.entry("", "messages", fmt.Sprintf("%s; due: %s, being sent: %s", thousands(e.Scheduled.Messages), thousands(e.Scheduled.Due), thousands(e.Scheduled.InFlight)))
	} else {
		p.entry("", "messages", "none")
	}
	if e.Message != nil {
		p.message(e.Message)
	}
	for _, h := range e.Holds {
		p.entry("", "held", p.hold(&h))
	}
	p.entry("", "next attempt", cmp.Or(p.moment(e.Next), "not known"))
	p.settings("", "settings", e.Settings, e.SettingsErr)
	p.limits("", e.Limits)
	p.site(e)
	if e.Pool != "" || e.PoolErr != "" {
		fmt.Fprintln(p.w)
		p.entry("", "egress pool", e.Pool)
		p.problem("", e.PoolErr)
	}
	for _, s := range e.Sources {
		p.source(&s, e.Chosen)
	}
}

// entry writes a label and its value; values are below one another.
func (p *explainPrinter) entry(indent, label, value string) {
	fmt.Fprintf(p.w, "%s%-*s %s\n", indent, 13-len(indent), label+":", cell(value))
}

func (p *explainPrinter) problem(indent, text string) {
	if text != "" {
		p.entry(indent, "error", text)
	}
}

func (p *explainPrinter) message(m *explainedMessage) {
	where := m.Where
	switch {
	case m.Session != "":
		where += " in session " + m.Session
	case m.ReadyQueue != "":
		where += " in " + m.ReadyQueue
	}
	if m.Ahead > 0 {
		where += "; before it: " + thousands(m.Ahead)
	}
	p.entry("", "message", fmt.Sprintf("%s; bytes: %s, tries: %s", m.ID, thousands(m.Size), thousands(m.Tries)))
	p.entry("  ", "from", "<"+m.Sender+">")
	p.entry("  ", "to", "<"+strings.Join(m.Recipients, ">, <")+">")
	p.entry("  ", "where", where)
	for _, t := range []struct {
		label string
		at    *time.Time
	}{{"due", m.Due}, {"expires", m.Expires}} {
		if t.at != nil {
			p.entry("  ", t.label, p.moment(t.at))
		}
	}
}

// moment is a time, and how far off it is; "" is not known.
func (p *explainPrinter) moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	off := "now"
	switch d := t.Sub(p.now); {
	case d > 0:
		off = "in " + brief(mtakit.Duration(d))
	case d < 0:
		off = brief(mtakit.Duration(-d)) + " ago"
	}
	return t.UTC().Format(time.RFC3339) + ", " + off
}

func (p *explainPrinter) hold(h *hold) string {
	s := h.Reason + ": " + h.Text
	if h.Until != nil {
		s += ", until " + p.moment(h.Until)
	}
	return s
}

// settings lists options, what is not set only if all are to be seen.
func (p *explainPrinter) settings(indent, title string, settings []setting, failure string) {
	t := table{indent: indent + "  ", head: []column{left("OPTION"), left("VALUE"), left("SET BY")}}
	for _, s := range settings {
		if !p.all && s.By == "" && s.Place == nil && len(s.Next) == 0 {
			continue
		}
		value := tomlText(s.Value)
		if len(s.Next) > 0 {
			value += ", soon " + tomlText(s.Next)
		}
		t.add(s.Option, value, origin(s.By, s.Place))
	}
	p.section(indent, title, &t, failure)
}

// section writes a table under a title, or nothing where there is nothing to tell.
func (p *explainPrinter) section(indent, title string, t *table, failure string) {
	if len(t.rows) == 0 && failure == "" {
		return
	}
	fmt.Fprintf(p.w, "\n%s%s:\n", indent, title)
	p.problem(indent+"  ", failure)
	if len(t.rows) > 0 {
		t.print(p.w)
	}
}

// tomlText is a JSON value in TOML's terms, as files have it.
func tomlText(value jsonText) string {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	s, err := tomlValue(d)
	if err != nil {
		return string(value)
	}
	return s
}

// origin is what set an option, and where.
func origin(by string, at *place) string {
	switch {
	case at == nil:
		return cmp.Or(by, "default")
	case by == "":
		return fmt.Sprintf("%s:%d", at.File, at.Line)
	}
	return fmt.Sprintf("%s, %s:%d", by, at.File, at.Line)
}

func (p *explainPrinter) limits(indent string, limits []limitUse) {
	t := table{indent: indent + "  ", head: []column{right("USED"), right("OF"), left("LIMIT"), left("ROOM"), left("OPTION"), left("COUNTED AS")}}
	for _, l := range limits {
		used, room := "?", "?"
		if l.Used != nil {
			used, room = thousands(*l.Used), "now"
		}
		if l.Wait != nil {
			room = "in " + brief(*l.Wait)
		}
		t.add(used, thousands(l.Most), l.Limit, room, l.Setting, l.Name)
	}
	p.section(indent, "limits", &t, "")
}

func (p *explainPrinter) site(e *explanation) {
	if e.Site == nil && e.RouteErr == "" {
		return
	}
	fmt.Fprintln(p.w)
	if e.Site == nil {
		p.entry("", "site", "not known: "+e.RouteErr)
		return
	}
	p.entry("", "site", e.Site.Name)
	for _, h := range e.Site.Hosts {
		fmt.Fprintf(p.w, "  %4d  %s\n", h.Preference, cell(h.Name))
	}
	p.problem("", e.RouteErr)
}

func (p *explainPrinter) source(s *way, chosen string) {
	share := fmt.Sprintf("weight %s, %.0f%% of the mail", thousands(s.Weight), s.Share*100)
	if s.Place != nil {
		share += ", " + origin("", s.Place)
	}
	if s.Name == chosen {
		share += "; the next message takes it"
	}
	fmt.Fprintf(p.w, "\nsource %s: %s\n", cell(s.Name), share)
	if s.Hold != nil {
		p.entry("  ", "held", p.hold(s.Hold))
	}
	if s.Hold == nil || s.Hold.Text != s.Err {
		p.problem("  ", s.Err)
	}
	if s.Ready != "" {
		p.entry("  ", "ready queue", s.Ready)
	}
	p.settings("  ", "settings", s.Settings, "")
	p.settings("  ", "path", s.Path, "")
	p.limits("  ", s.Limits)
	if s.Ceilings != nil {
		fmt.Fprint(p.w, "\n  ceilings:\n")
		s.Ceilings.print(p.w, "    ")
	}
}
