package queue

import "slices"

// lanes are the messages of a ready queue, a lane for each scheduled queue that has some. Lanes of one priority are served by deficit round robin (Shreedhar and
// Varghese) with transactions as the unit, whatever their size and number of recipients: at its turn a lane gets credit for as many as its weight. A
// message is taken as one transaction; those that it takes beyond the first, for its further recipients, are debts that the lane pays with later turns.
//
// So a queue waits for at most weight messages of every other lane between two turns, however many these have. And of two lanes that always have messages,
// each gets transactions in proportion to its weight, up to a turn and what one message of each takes, for every session at work.
//
// A higher priority goes first, but one message in starveGuard is for those below it, so that these only slow down. Every operation takes constant time, but
// for the few priorities there are; take, on the average over the transactions.
type lanes struct {
	levels []level // by priority, highest first; those that are empty stay
	byName map[*sched]*lane
	spare  []*lane // empty ones, to be used again: most queues have few messages at a time, again and again
	n      int
	taken  uint
}

type level struct {
	priority int
	turns    fifo[*lane]
}

type lane struct {
	s        *sched
	priority int
	weight   int
	credit   int // for the turn that it has
	debt     int // transactions that were sent beyond the credit
	q        fifo[*item]
}

const starveGuard = 8

// of returns the lane of s, made if need be.
func (ls *lanes) of(s *sched) *lane {
	if l := ls.byName[s]; l != nil {
		return l
	}
	l := &lane{}
	if n := len(ls.spare); n > 0 {
		l, ls.spare = ls.spare[n-1], ls.spare[:n-1]
	}
	l.s, l.priority, l.weight, l.credit, l.debt = s, 0, 1, 0, 0
	if c := s.conf.Load(); c != nil && c.err == nil {
		l.priority, l.weight = c.Priority, max(1, c.Weight)
	}
	if ls.byName == nil {
		ls.byName = make(map[*sched]*lane)
	}
	ls.byName[s] = l
	ls.level(l.priority).turns.pushBack(l)
	return l
}

func (ls *lanes) level(priority int) *level {
	i, ok := slices.BinarySearchFunc(ls.levels, priority, func(l level, p int) int { return p - l.priority })
	if !ok {
		ls.levels = slices.Insert(ls.levels, i, level{priority: priority})
	}
	return &ls.levels[i]
}

// forget takes an empty lane, which has no turn any more, out of use.
func (ls *lanes) forget(l *lane) {
	delete(ls.byName, l.s)
	if l.s = nil; len(ls.spare) < 64 {
		ls.spare = append(ls.spare, l)
	}
}

// stock is how many messages s has here, and how many it may send at a turn.
func (ls *lanes) stock(s *sched) (n, turn int) {
	if l := ls.byName[s]; l != nil {
		return l.q.len(), min(l.weight, 64)
	}
	return 0, 1
}

// pushBack puts a message into the lane of its queue.
func (ls *lanes) pushBack(it *item) {
	ls.of(it.sched).q.pushBack(it)
	ls.n++
}

// untake undoes take: the message is at the front of its lane, and it is the lane's turn, unless others have had theirs meanwhile.
func (ls *lanes) untake(it *item) {
	l := ls.of(it.sched)
	l.q.pushFront(it)
	ls.n++
	turns := &ls.level(l.priority).turns
	switch n := turns.len(); l {
	case turns.at(0):
		l.credit++
	case turns.at(n - 1):
		turns.popBack()
		turns.pushFront(l)
		l.credit = 1
	}
}

// take is the next message by priority and turn.
func (ls *lanes) take() (*item, bool) {
	lv := ls.next()
	if lv == nil {
		return nil, false
	}
	l := lv.turn()
	it, _ := l.q.popFront()
	ls.n--
	l.credit--
	switch {
	case l.q.len() == 0:
		lv.turns.popFront()
		ls.forget(l)
	case l.credit == 0:
		lv.turns.popFront()
		lv.turns.pushBack(l)
	}
	return it, true
}

// turn is the lane whose turn it is, with credit. Lanes that need it for their debts are passed over, unless there is no other.
func (lv *level) turn() *lane {
	for {
		l := lv.turns.at(0)
		if l.credit > 0 {
			return l
		}
		if lv.turns.len() == 1 {
			l.debt = 0
		}
		paid := min(l.debt, l.weight)
		l.debt, l.credit = l.debt-paid, l.weight-paid
		if l.credit == 0 {
			lv.turns.popFront()
			lv.turns.pushBack(l)
		}
	}
}

// charge says that a message of s took another transaction. A lane that has no more messages owes nothing.
func (ls *lanes) charge(s *sched) {
	if l := ls.byName[s]; l != nil {
		l.debt++
	}
}

// next is the level whose turn it is; nil if all are empty. Of those below the first, the first goes first in the same way, and so on: none starves.
func (ls *lanes) next() (lv *level) {
	ls.taken++
	below := 0
	for n := ls.taken; n > 0 && n%starveGuard == 0; n /= starveGuard {
		below++
	}
	for i := range ls.levels {
		if ls.levels[i].turns.len() == 0 {
			continue
		}
		if lv = &ls.levels[i]; below == 0 {
			break
		}
		below--
	}
	return lv
}

// takeLast is the message that would be the last one: of the lowest priority, from the end of the longest wait.
func (ls *lanes) takeLast() (*item, bool) {
	for i := len(ls.levels) - 1; i >= 0; i-- {
		turns := &ls.levels[i].turns
		if turns.len() == 0 {
			continue
		}
		l := turns.at(turns.len() - 1)
		it, _ := l.q.popBack()
		ls.n--
		if l.q.len() == 0 {
			turns.popBack()
			ls.forget(l)
		}
		return it, true
	}
	return nil, false
}

// filter keeps the messages for which keep says so.
func (ls *lanes) filter(keep func(*item) bool) {
	for i := range ls.levels {
		turns := &ls.levels[i].turns
		for range turns.len() {
			l, _ := turns.popFront()
			for range l.q.len() {
				if it, _ := l.q.popFront(); keep(it) {
					l.q.pushBack(it)
				} else {
					ls.n--
				}
			}
			if l.q.len() == 0 {
				ls.forget(l)
				continue
			}
			turns.pushBack(l)
		}
	}
}
