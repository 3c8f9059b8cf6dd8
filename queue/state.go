package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// State keeps the operator's rules over a restart. Calls don't overlap.
type State interface {
	// Load returns what Save was last given; nil if there is nothing.
	Load() ([]byte, error)
	Save([]byte) error
}

// StateFile is a State in a file of that name.
type StateFile string

// Load reads the file; it need not exist.
func (f StateFile) Load() ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save replaces the file; a crash leaves the old or the new one.
func (f StateFile) Save(b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), "."+filepath.Base(string(f))+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), string(f)); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

type stateJSON struct {
	Version int          `json:"version"`
	Bounce  []*Rule      `json:"bounce"`
	Suspend []*Rule      `json:"suspend"`
	Ready   []*ReadyRule `json:"suspend_ready"`
}

const stateVersion = 1

// saveRules writes the rules in force. A failure is told and does not undo the rule, which holds until the process ends.
func (q *Queue) saveRules() {
	if q.cfg.State == nil {
		return
	}
	q.rules.saving.Lock()
	defer q.rules.saving.Unlock()
	b, err := json.Marshal(stateJSON{stateVersion, q.Bounces(), q.Suspensions(), q.ReadySuspensions()})
	if err == nil {
		err = q.cfg.State.Save(b)
	}
	if err != nil {
		q.log.Error("rules not saved; a restart would forget the last change", "err", err)
	}
}

// loadRules puts those rules in force that have not expired meanwhile. It is called before anything runs.
func (q *Queue) loadRules() error {
	if q.cfg.State == nil {
		return nil
	}
	b, err := q.cfg.State.Load()
	if err != nil || b == nil {
		return err
	}
	var st stateJSON
	if err := json.Unmarshal(b, &st); err != nil {
		return fmt.Errorf("queue: the rules can't be read; move them away to start without: %w", err)
	}
	if st.Version != stateVersion {
		return fmt.Errorf("queue: the rules are of version %d, and this program knows %d; start a newer one, or move them away", st.Version, stateVersion)
	}
	now := q.now()
	q.rules.mu.Lock()
	defer q.rules.mu.Unlock()
	live := func(t time.Time) bool { return t.After(now) }
	for _, r := range st.Bounce {
		if r.names = r.Match.names(); live(r.Expires) {
			q.rules.bounce = append(q.rules.bounce, r)
		}
	}
	for _, r := range st.Suspend {
		if r.names = r.Match.names(); live(r.Expires) {
			q.rules.suspend = append(q.rules.suspend, r)
		}
	}
	for _, r := range st.Ready {
		if live(r.Expires) {
			q.rules.ready[r.Name] = r
		}
	}
	q.rules.changed()
	return nil
}
