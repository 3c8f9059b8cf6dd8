package queue

import "strings"

// Reasons is an ordered list of why a message is where it is. It is printed in Delayed records.
type Reasons []Reason

// Reason is one of the values below.
type Reason string

// Reasons for which a message enters a scheduled queue.
const (
	Received                           Reason = "Received"
	Enumerated                         Reason = "Enumerated"
	ScheduledForLater                  Reason = "ScheduledForLater"
	ReadyQueueWasSuspended             Reason = "ReadyQueueWasSuspended"
	MessageRateThrottle                Reason = "MessageRateThrottle"
	ThrottledByReadyCallback           Reason = "ThrottledByThrottleInsertReadyQueue"
	ReadyQueueWasFull                  Reason = "ReadyQueueWasFull"
	FailedToInsertIntoReadyQueue       Reason = "FailedToInsertIntoReadyQueue"
	GetQueueNameFailed                 Reason = "MessageGetQueueNameFailed"
	AdminRebind                        Reason = "AdminRebind"
	DueTimeWasReached                  Reason = "DueTimeWasReached"
	MaxReadyWasReduced                 Reason = "MaxReadyWasReducedByConfigUpdate"
	ReadyQueueWasDelayedDueToLowMemory Reason = "ReadyQueueWasDelayedDueToLowMemory"
	TooManyConnectionFailures          Reason = "TooManyConnectionFailures"
	TooManyRecipients                  Reason = "TooManyRecipients"
	ConnectionRateThrottle             Reason = "ConnectionRateThrottle"
	LoggedTransientFailure             Reason = "LoggedTransientFailure"
	DispatcherDrop                     Reason = "DispatcherDrop"
	PeerClosedConnection               Reason = "PeerClosedConnection"
	SpoolUnhealthy                     Reason = "SpoolUnhealthy"
	SourceIsUnhealthy                  Reason = "SourceIsUnhealthyAndSuspended"
)

// with appends a reason, unless it is the last one already.
func (r Reasons) with(more ...Reason) Reasons {
	for _, m := range more {
		if len(r) == 0 || r[len(r)-1] != m {
			r = append(r[:len(r):len(r)], m)
		}
	}
	return r
}

func (r Reasons) has(x Reason) bool {
	for _, y := range r {
		if x == y {
			return true
		}
	}
	return false
}

// String lists the reasons, separated by commas.
func (r Reasons) String() string {
	s := make([]string, len(r))
	for i, x := range r {
		s[i] = string(x)
	}
	return strings.Join(s, ", ")
}
