package app

import (
	"context"
	"log/slog"
	"time"
)

// watchStart looks after a store from its opening until begun is called, or until it has answered for as long as wait: who has not
// begun by then stands by. A store that falls silent meanwhile is waited for as long as at its opening: then the context
// returned ends, and its cause is the error to end with.
func watchStart(ctx context.Context, ping func(context.Context) error, wait time.Duration, log *slog.Logger) (starting context.Context, begun func()) {
	starting, fail := context.WithCancelCause(ctx)
	watching, begun := context.WithCancel(starting)
	go func() {
		opened := time.Now()
		answered := opened
		for pause := time.Second; ; pause = min(2*pause, 5*time.Second) {
			asking, cancel := context.WithTimeout(watching, answering)
			err := ping(asking)
			cancel()
			left := wait - time.Since(answered)
			switch {
			case watching.Err() != nil:
				return
			case err == nil && time.Since(opened) >= wait:
				return
			case err == nil:
				answered, left, pause = time.Now(), time.Second, time.Second
			case left <= 0:
				fail(&storeError{err})
				return
			default:
				log.Warn("waiting for the database; it does not answer any more", "giving_up_in", left.Round(time.Second).String(), "err", err)
			}
			select {
			case <-watching.Done():
				return
			case <-time.After(min(pause, left)):
			}
		}
	}()
	return starting, begun
}
