package mongostore

import (
	"flag"
	"os"
	"testing"

	"wabot/internal/mongotest"
)

func TestMain(m *testing.M) {
	// The server that stands in for MongoDB is slow, so that random sequences of calls are few by default.
	checks := "20"
	if os.Getenv("WABOT_LONG") != "" {
		checks = "200"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	if err := mongotest.Build(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
