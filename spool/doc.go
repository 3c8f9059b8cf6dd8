// Package spool keeps messages on disk: [Spool] is a [mtakit.Spool] made of a log of segments, with bbolt as its index.
//
//	s, err := spool.Open("spool", spool.Options{})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	m := &mtakit.Message{ID: ids.New(time.Now()), Sender: "a@example.com", To: []string{"b@example.org"}}
//	body := mtakit.Bytes("Subject: hello\r\n\r\nHi!\r\n")
//	err = s.Store(ctx, []mtakit.Submission{{Message: m, Body: body}}, mtakit.Durable)
//
// # How it works
//
// Whatever happens to a message is a record at the end of the log: stored with its body, envelope replaced, due later,
// gone. Writers that want durability share one fdatasync (see commit). In memory each message costs about 26 bytes: a
// hash of its id, the place of its newest record, due time and tries. Every few seconds that index goes to bbolt, with the
// position in the log that it covers; Open reads bbolt and then only the log behind that position. bbolt holds nothing that
// is not in the log as well: an index that is damaged is set aside and made again from the log.
//
// A segment without live records is freed after the next writing of the index, and a few are kept as files to be written
// again, since blocks that a file already has make the sync cheaper. One that is mostly dead is copied to the end of the
// log first.
//
// # What it promises
//
// Store with [mtakit.Durable] and Update return after the sync. Reschedule, Remove and Store with [mtakit.Buffered] return once the
// operating system has the record: the end of the process does not undo them, a power failure may undo those since the
// last sync, which follows with the next durable write, at the latest after Options.CheckpointInterval.
//
// After a crash the log is read up to the first record that is not whole. If nothing says that the rest was durable once,
// it is cut off and counted as torn; otherwise the damaged part is copied to a file under damaged/ and reported, by the log and by
// Scan, and reading goes on behind it. A body is checked when it is opened.
//
// After a failed write or sync nothing is written any more, and everything that would answers [mtakit.ErrUnhealthy], until what
// was in doubt has been written again to a new file, synced and read back. That is tried every Options.RetryInterval. A
// message whose Store failed so is not delivered in this process; after a restart it may be there.
//
// On a full disk, and at the limits of Options, Store answers [mtakit.ErrSpoolFull]. Everything that makes room goes on; if not
// even the index can be written, it is given up for the time being, so that segments can be freed. Removing needs a few
// dozen bytes of log itself: where others may fill the file system to the last byte, Options.MinFree is what keeps them.
//
// # Goroutines
//
// Open starts one, which Close ends: it prepares segments, looks at the disk, writes the index, copies and frees segments,
// and repairs. Committing has none: a writer leads.
//
// # Caveats
//
// A directory belongs to one Spool at a time. It must be on a local file system. A message that is larger than a segment,
// and one whose body is not in memory, is held in memory while it is stored. Due times are kept from 1970 to 2106, tries up to
// 65535.
package spool
