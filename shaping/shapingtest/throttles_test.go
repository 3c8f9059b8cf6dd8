package shapingtest_test

import (
	"testing"
	"testing/synctest"

	"github.com/mtakit/mtakit/shaping"
	"github.com/mtakit/mtakit/shaping/shapingtest"
)

func TestLocalThrottles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { shapingtest.TestThrottles(t, shaping.NewThrottles) })
}

func TestLocalThrottlesInRealTime(t *testing.T) {
	t.Parallel()
	shapingtest.TestThrottles(t, shaping.NewThrottles)
}
