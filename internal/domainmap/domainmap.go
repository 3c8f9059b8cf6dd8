// Package domainmap looks domains up in a table with wildcards, as KumoMTA's data files have them.
package domainmap

import "strings"

// Map has values under domains, *.domains and *. The zero value is empty. Reading it is safe for concurrent use.
type Map[T any] struct{ root node[T] }

type node[T any] struct {
	labels map[string]*node[T]
	value  T
	set    bool
}

// Set puts v under key: a domain, *.domain for those below it at any depth, or *.
func (m *Map[T]) Set(key string, v T) {
	n := &m.root
	for rest, label := key, ""; rest != ""; {
		rest, label = cutLast(rest)
		next := n.labels[label]
		if next == nil {
			if n.labels == nil {
				n.labels = make(map[string]*node[T])
			}
			next = &node[T]{}
			n.labels[label] = next
		}
		n = next
	}
	n.value, n.set = v, true
}

// Get walks the labels of the domain from the right. Where there is none with that name, a * beside it counts; there is no way
// back, so that with *.example.com and x.y.example.com nothing is found for q.y.example.com. Letters count in their case.
func (m *Map[T]) Get(domain string) (v T, ok bool) {
	n := &m.root
	for rest, label := domain, ""; rest != ""; {
		rest, label = cutLast(rest)
		next := n.labels[label]
		if next == nil {
			if next = n.labels["*"]; next == nil {
				return v, false
			}
			return next.value, next.set
		}
		n = next
	}
	return n.value, n.set
}

func cutLast(domain string) (rest, label string) {
	i := strings.LastIndexByte(domain, '.')
	if i < 0 {
		return "", domain
	}
	return domain[:i], domain[i+1:]
}
