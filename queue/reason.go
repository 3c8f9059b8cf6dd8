package queue

import (
	"slices"
	"strings"
)

// Reasons is an ordered list of why a message is where it is. It is printed in Delayed records.
type Reasons []Reason

// Reason is one of the values below, or the Reason of an mtakit.PathError.
type Reason string

// Reasons for which a message enters a scheduled queue.
const (
	Received                     Reason = "Received"
	Enumerated                   Reason = "Enumerated"
	ScheduledForLater            Reason = "ScheduledForLater"
	MessageRateThrottle          Reason = "MessageRateThrottle"
	ThrottledByReadyCallback     Reason = "ThrottledByThrottleInsertReadyQueue"
	FailedToInsertIntoReadyQueue Reason = "FailedToInsertIntoReadyQueue"
	GetQueueNameFailed           Reason = "MessageGetQueueNameFailed"
	AdminRebind                  Reason = "AdminRebind"
	DueTimeWasReached            Reason = "DueTimeWasReached"
	TooManyConnectionFailures    Reason = "TooManyConnectionFailures"
	TooManyRecipients            Reason = "TooManyRecipients"
	ConnectionRateThrottle       Reason = "ConnectionRateThrottle"
	LoggedTransientFailure       Reason = "LoggedTransientFailure"
	DispatcherDrop               Reason = "DispatcherDrop"
	SpoolUnhealthy               Reason = "SpoolUnhealthy"
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

func (r Reasons) has(x Reason) bool { return slices.Contains(r, x) }

// String lists the reasons, separated by commas.
func (r Reasons) String() string {
	s := make([]string, len(r))
	for i, x := range r {
		s[i] = string(x)
	}
	return strings.Join(s, ", ")
}
