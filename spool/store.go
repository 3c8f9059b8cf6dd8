package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/mtakit/mtakit/internal/vfs"
)

// store keeps the index on disk: short keys, values of up to some 100 KiB, changed by one transaction every few seconds. It is
// used by one goroutine at a time, except get.
type store interface {
	// each calls f for all keys that begin with prefix, ascending. Key and value are valid during the call.
	each(prefix string, f func(key, value []byte) error) error
	// get appends a value to dst; ok is false if there is none.
	get(key string, dst []byte) (value []byte, ok bool, err error)
	// commit applies all changes or none, durably. After an error other than a lack of space the store is not used again.
	commit(changes map[string][]byte) error
	close() error
}

// errIndex is wrapped where the index on disk cannot be used. All of it is in the log as well.
var errIndex = errors.New("the index is damaged")

// openStore opens bbolt, or where the file system is not the operating system's, a file that is written whole.
func openStore(fsys vfs.FS, path, dir string) (store, error) {
	if fsys == vfs.OS {
		return openBolt(path)
	}
	return openFileStore(fsys, path, dir)
}

// Values carry their checksum: bbolt checks its meta pages only.
func sealValue(b []byte) []byte { return le.AppendUint32(b, crc32.Checksum(b, crcTable)) }

func openValue(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, errIndex
	}
	v := b[:len(b)-4]
	if crc32.Checksum(v, crcTable) != le.Uint32(b[len(v):]) {
		return nil, errIndex
	}
	return v, nil
}

type boltStore struct{ db *bbolt.DB }

var boltBucket = []byte("spool")

func openBolt(path string) (st *boltStore, err error) {
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	// The list of free pages is written with every commit. Without it bbolt walks all pages at opening, in a goroutine whose
	// panic at a damaged one cannot be caught; and the list is short here.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         time.Second,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: 64 << 30, // so that growth never waits for readers
	})
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(boltBucket)
			return err
		})
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) || errors.Is(err, os.ErrPermission) || noSpace(err) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	return &boltStore{db}, nil
}

// guard turns what reading a damaged file does, panics and memory faults, into errors.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errIndex, r)
	}
}

func (st *boltStore) each(prefix string, f func(key, value []byte) error) (err error) {
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return st.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(boltBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && string(k[:min(len(k), len(prefix))]) == prefix; k, v = c.Next() {
			if err := f(k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func (st *boltStore) get(key string, dst []byte) (value []byte, ok bool, err error) {
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err = st.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(boltBucket).Get([]byte(key))
		value, ok = append(dst, v...), v != nil
		return nil
	})
	return value, ok, err
}

func (st *boltStore) commit(changes map[string][]byte) (err error) {
	defer guard(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return st.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(boltBucket)
		for _, k := range slices.Sorted(maps.Keys(changes)) {
			var err error
			if v := changes[k]; v == nil {
				err = b.Delete([]byte(k))
			} else {
				err = b.Put([]byte(k), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (st *boltStore) close() (err error) {
	defer guard(&err)
	return st.db.Close()
}

// fileStore is for file systems on which bbolt cannot run.
type fileStore struct {
	fs        vfs.FS
	path, dir string
	mu        sync.Mutex
	m         map[string][]byte // replaced, not changed
}

func (st *fileStore) now() map[string][]byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.m
}

func openFileStore(fsys vfs.FS, path, dir string) (*fileStore, error) {
	st := &fileStore{fs: fsys, path: path, dir: dir, m: map[string][]byte{}}
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if b, err = openValue(b); err != nil {
		return nil, err
	}
	for len(b) > 0 {
		k, v := le.Uint32(b), le.Uint32(b[4:])
		b = b[8:]
		st.m[string(b[:k])] = b[k : k+v : k+v]
		b = b[k+v:]
	}
	return st, nil
}

func (st *fileStore) each(prefix string, f func(key, value []byte) error) error {
	m := st.now()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(k, prefix) {
			if err := f([]byte(k), m[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *fileStore) get(key string, dst []byte) ([]byte, bool, error) {
	v, ok := st.now()[key]
	return append(dst, v...), ok, nil
}

func (st *fileStore) commit(changes map[string][]byte) error {
	m := maps.Clone(st.now())
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = le.AppendUint32(b, uint32(len(k)))
		b = le.AppendUint32(b, uint32(len(m[k])))
		b = append(append(b, k...), m[k]...)
	}
	temp := st.path + tempSuffix
	f, err := st.fs.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(sealValue(b), 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = st.fs.Rename(temp, st.path)
	}
	if err == nil {
		err = st.fs.SyncDir(st.dir)
	}
	if err != nil {
		return errors.Join(err, st.fs.Remove(temp)) // it may be what fills the disk
	}
	st.mu.Lock()
	st.m = m
	st.mu.Unlock()
	return nil
}

func (st *fileStore) close() error { return nil }
