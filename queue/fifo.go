package queue

// fifo is a queue in a ring that grows and shrinks. The zero value is empty.
type fifo[T any] struct {
	ring    []T // its length is a power of two
	head, n int
}

func (f *fifo[T]) len() int { return f.n }

func (f *fifo[T]) pushBack(v T) {
	if f.n == len(f.ring) {
		f.resize(max(4, 2*f.n))
	}
	f.ring[(f.head+f.n)&(len(f.ring)-1)] = v
	f.n++
}

func (f *fifo[T]) pushFront(v T) {
	if f.n == len(f.ring) {
		f.resize(max(4, 2*f.n))
	}
	f.head = (f.head - 1) & (len(f.ring) - 1)
	f.ring[f.head] = v
	f.n++
}

func (f *fifo[T]) popFront() (v T, ok bool) {
	if f.n == 0 {
		return v, false
	}
	var zero T
	v, f.ring[f.head] = f.ring[f.head], zero
	f.head = (f.head + 1) & (len(f.ring) - 1)
	f.n--
	f.shrink()
	return v, true
}

func (f *fifo[T]) popBack() (v T, ok bool) {
	if f.n == 0 {
		return v, false
	}
	var zero T
	i := (f.head + f.n - 1) & (len(f.ring) - 1)
	v, f.ring[i] = f.ring[i], zero
	f.n--
	f.shrink()
	return v, true
}

// at is the i-th element from the front.
func (f *fifo[T]) at(i int) T { return f.ring[(f.head+i)&(len(f.ring)-1)] }

func (f *fifo[T]) shrink() {
	switch {
	case f.n == 0 && len(f.ring) > 64:
		f.ring, f.head = nil, 0
	case len(f.ring) > 64 && f.n < len(f.ring)/4:
		f.resize(len(f.ring) / 2)
	}
}

func (f *fifo[T]) resize(n int) {
	ring := make([]T, n)
	for i := range f.n {
		ring[i] = f.at(i)
	}
	f.ring, f.head = ring, 0
}
