package spooltest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// What a power failure leaves: durable is what it says.
func ExampleDisk() {
	ctx, disk := context.Background(), new(spooltest.Disk)
	o := spool.Options{FS: disk, CheckpointInterval: time.Hour} // which would sync what is buffered
	s, err := spool.Open("/spool", o)
	if err != nil {
		fmt.Println(err)
		return
	}
	var ids mtakit.IDSource
	for _, d := range []mtakit.Durability{mtakit.Durable, mtakit.Buffered} {
		m := &mtakit.Message{ID: ids.New(time.Now()), To: []string{"user@example.org"}, Queue: mtakit.QueueName{Domain: d.String()}}
		if err := s.Store(ctx, []mtakit.Submission{{Message: m, Body: mtakit.Bytes("Hi!\r\n")}}, d); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(s.Len(), "messages before")
	o.FS = disk.Crash(spooltest.LoseAll, nil)
	s.Close()

	s, err = spool.Open("/spool", o)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for e, err := range s.Scan(ctx, ids.New(time.Now())) {
		fmt.Println("afterwards:", e.Queue, err)
	}
	// Output:
	// 2 messages before
	// afterwards: durable <nil>
}
