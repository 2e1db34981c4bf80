// Package media turns what people send, as bytes, into what a model takes: a picture shrunk to a model's limits, the text of
// a document, and what WhatsApp wants to know of a recording. Strangers choose the bytes. So everything is bounded
// in size, in memory and in time; what has a parser that may harm the process all the same, pictures, PDF and Word documents, is read by
// processes of its own; and what cannot be read is an error that says in which of few ways.
package media

import "errors"

// The errors. Each is about the bytes: another try with them ends the same.
var (
	// ErrUnsupported says that it is none of the kinds that are read here.
	ErrUnsupported = errors.New("a kind of file that is not read")
	// ErrBroken says that it is one of them, and damaged, locked, or made to do harm.
	ErrBroken = errors.New("the file is damaged or too much to read")
)
