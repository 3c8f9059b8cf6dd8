package spooltest_test

import (
	"errors"
	"testing"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/spool/spooltest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	spooltest.TestSpool(t, func() mtakit.Spool { return new(spooltest.Memory) })
}

func TestMemoryFailsOnDemand(t *testing.T) {
	t.Parallel()
	s := &spooltest.Memory{Before: func(method string, _ mtakit.ID) error {
		if method == "Store" {
			return mtakit.ErrSpoolFull
		}
		return nil
	}}
	err := s.Store(t.Context(), []mtakit.Submission{{Message: &mtakit.Message{}, Body: mtakit.Bytes("x")}}, mtakit.Durable)
	if !errors.Is(err, mtakit.ErrSpoolFull) || s.Len() != 0 {
		t.Errorf("Store: %v, %d messages; want ErrSpoolFull and none", err, s.Len())
	}
}
