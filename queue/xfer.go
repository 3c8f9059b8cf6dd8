package queue

import (
	"context"
	"strings"
	"time"

	"github.com/mtakit/mtakit"
)

// XferSuffix ends the names of the queues whose messages go to another node; before it is the URL of that node. Policy is not asked for their settings. Package
// queue/xfer has the Egress for them.
const XferSuffix = ".xfer.kumomta.internal"

// MetaXferFrom is the metadata of a message that came from another node that has that node's address.
const MetaXferFrom = "xfer_from"

// xferProtocol is the delivery protocol in records of transfers that succeeded.
const xferProtocol = "xfer"

const xferRetry = 10 * time.Second

// xferConf is the settings of a queue to another node; nil for other queues.
func xferConf(name mtakit.QueueName, up time.Duration, epoch uint64) *conf {
	target, ok := strings.CutSuffix(name.Domain, XferSuffix)
	if !ok || name != (mtakit.QueueName{Domain: name.Domain}) {
		return nil
	}
	set := mtakit.DefaultQueueSettings()
	set.RetryInterval, set.RefreshStrategy = mtakit.Duration(xferRetry), mtakit.RefreshEpoch
	set.Protocol.Xfer = &mtakit.XferProtocol{Target: target}
	c, _ := newConf(&set, up, epoch) // these make sense
	return c
}

// Transferred is Submit for messages that another node had accepted: their records are XferIn.
func (q *Queue) Transferred(ctx context.Context, batch []mtakit.Submission, d mtakit.Durability) error {
	return q.receive(ctx, batch, d, mtakit.XferIn)
}
