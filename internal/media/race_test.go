//go:build race

package media

// raced is set where the race detector takes most of the memory that a reader may have.
const raced = true
