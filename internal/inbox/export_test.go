package inbox

// NewRecent makes what an Inbox reads histories through.
func NewRecent(store Store, n int) Store { return newRecent(store, n) }

// InMemory is how many bytes of histories one made by NewRecent has in memory.
func InMemory(store Store) int { return store.(*recent).size }
