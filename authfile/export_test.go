package authfile

// Occupy has as many hashes computed as there may be at once, until free is called.
func Occupy(u *Users) (free func()) {
	for range cap(u.slots) {
		u.slots <- struct{}{}
	}
	return func() {
		for range cap(u.slots) {
			<-u.slots
		}
	}
}
