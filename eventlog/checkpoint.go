package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mtakit/mtakit/internal/vfs"
)

// checkpoint is a place in a directory: so many lines of the file are done, and all of the files before it.
type checkpoint struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

func (t *Tailer) checkpointFile() string { return filepath.Join(t.cfg.Dir, "."+t.cfg.Checkpoint) }

// start is where to begin.
func (t *Tailer) start() (c checkpoint, err error) {
	files, err := t.files()
	if err != nil {
		return c, err
	}
	if _, err := os.ReadDir(t.cfg.Dir); err != nil { // which a glob does not tell
		return c, fmt.Errorf("eventlog: %w", err)
	}
	if t.cfg.FromNewest {
		if len(files) > 0 {
			c.File = files[len(files)-1]
		}
		return c, nil
	}
	if t.cfg.Checkpoint == "" {
		return c, nil
	}
	b, err := os.ReadFile(t.checkpointFile())
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, fmt.Errorf("eventlog: checkpoint: %w", err)
	}
	c.File = t.underDir(c.File)
	return c, nil
}

// underDir is the path of a file as it is listed now. When the checkpoint was made, the directory may have been named in another way; compared
// as it is written, the file could be behind all there are, for ever.
func (t *Tailer) underDir(file string) string {
	if strings.HasPrefix(file, filepath.Clean(t.cfg.Dir)+string(filepath.Separator)) {
		return file
	}
	parts := strings.Split(filepath.ToSlash(file), "/")
	below := min(strings.Count(t.cfg.Pattern, "/")+1, len(parts)) // a pattern matches no more and no less
	return filepath.Join(append([]string{t.cfg.Dir}, parts[len(parts)-below:]...)...)
}

func (c checkpoint) save(name string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := writeFile(vfs.OS, name, b); err != nil {
		return fmt.Errorf("eventlog: checkpoint: %w", err)
	}
	return nil
}
