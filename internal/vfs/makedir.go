package vfs

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// MakeDir makes a directory, unless there is one, and what is missing above it; all of it is on stable storage then.
func MakeDir(fsys FS, dir string, perm fs.FileMode) error {
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MakeDir(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, perm); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}
