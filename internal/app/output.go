package app

import (
	"fmt"
	"io"
	"sync"
)

// Output is a writer that keeps its first error, for who prints what a program or a person waits for.
type Output struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (o *Output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = fmt.Errorf("not all could be printed: %w", err)
		}
	}
	return n, err
}

// Err is the first error, nil where all was written.
func (o *Output) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
