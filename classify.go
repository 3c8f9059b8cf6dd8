package mtakit

// Class is a kind of reply, "InvalidRecipient" for example; "" if unclassified.
type Class string

// Uncategorized is how an unclassified reply is written in records.
const Uncategorized Class = "Uncategorized"

// Classifier sorts replies into classes. It must be safe for concurrent use and must not block.
type Classifier interface{ Classify(Response) Class }

// ClassifierFunc is a function as a Classifier.
type ClassifierFunc func(Response) Class

// Classify calls f.
func (f ClassifierFunc) Classify(r Response) Class { return f(r) }
