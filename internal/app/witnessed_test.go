package app

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wabot/internal/config"
	"wabot/internal/sqlitestore"
)

// A database that is gone from where it was is told of at the next start, once.
func TestMissingDatabaseIsSaid(t *testing.T) {
	t.Parallel()
	cfg := config.Store{SessionDir: t.TempDir()}
	for _, tt := range []struct {
		name string
		gone bool
		said bool
	}{{"first", false, false}, {"second", false, false}, {"gone", true, true}, {"anew", false, false}} {
		if tt.gone {
			if err := os.Remove(filepath.Join(cfg.SessionDir, sqlitestore.File)); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		store, err := openStore(t.Context(), cfg, use{}, slog.New(slog.NewTextHandler(&out, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Lead(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(out.String(), "SESSION_DIR had a database before"); said != tt.said {
			t.Errorf("%s: said is %v, want %v: %s", tt.name, said, tt.said, &out)
		}
	}
}
