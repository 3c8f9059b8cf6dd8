package smtpclient

import (
	"context"
	"time"
)

// begin lets the end of ctx cut the operation that begins, until end. The watch on a context is kept for the operations that
// follow with the same one.
func (c *Conn) begin(ctx context.Context) error {
	done := ctx.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = false
	if done != c.watched {
		if c.stop != nil {
			c.stop()
		}
		c.watched, c.stop = done, nil
		if done != nil {
			c.stop = context.AfterFunc(ctx, func() { c.interrupt(ctx) })
		}
	}
	// From here on either the check below or interrupt, which waits for mu, sees the end of ctx.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.active = true
	return nil
}

func (c *Conn) interrupt(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.active && c.watched == ctx.Done() && c.cut == nil {
		c.cut = context.Cause(ctx)
		c.w.Conn.SetDeadline(time.Unix(1, 0))
	}
}

func (c *Conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = false
}

// readBy and writeBy set deadlines, unless the operation is cut already.
func (c *Conn) readBy(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut == nil {
		c.w.Conn.SetReadDeadline(t)
	}
}

func (c *Conn) writeBy(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut == nil {
		c.w.Conn.SetWriteDeadline(t)
	}
}

// isCut says whether the context of the operation has ended.
func (c *Conn) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut != nil
}
