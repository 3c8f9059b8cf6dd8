package spooltest

import "github.com/mtakit/mtakit/internal/vfs"

// Disk is a disk in memory for spool.Options.FS. The zero value is empty.
//
//	disk := new(spooltest.Disk)
//	s, err := spool.Open("/spool", spool.Options{FS: disk})
//	... // store
//	after := disk.Crash(spooltest.LoseAll, nil) // the power fails
//	s, err = spool.Open("/spool", spool.Options{FS: after})
//
// Its fields and methods: Before is asked before each operation and may fail it; FailAt(n, err) and CrashAt(n) do so with the nth;
// SetCapacity makes it small; Count and Ops say what was done; Crash(loss, rnd) gives the disk as it is found afterwards.
type Disk = vfs.Mem

// Op is an operation on a Disk.
type Op = vfs.Op

// Loss is what a crash does to what was not synced.
type Loss = vfs.Loss

// What Crash loses.
const (
	LoseAll  = vfs.LoseAll  // power failure: nothing that was not synced is there
	LoseSome = vfs.LoseSome // power failure: some sectors of each write, and the first few changes of names are there
	LoseNone = vfs.LoseNone // the process was killed: all is there
)

// ErrCrashed is what operations of a Disk return that has stopped.
var ErrCrashed = vfs.ErrCrashed
