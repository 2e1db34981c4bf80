// Command wabot is a WhatsApp AI bot: a daemon that links to an account as a companion device
// and answers its chats with a language model.
package main

import (
	"fmt"
	"os"

	"wabot/internal/app"
)

func main() {
	ctx, interrupts := app.Signals(os.Args[1:])
	err := app.Run(ctx, app.Process{
		Args:       os.Args[1:],
		Getenv:     os.Getenv,
		Dotenv:     ".env",
		Self:       self(),
		Stdin:      os.Stdin,
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		Interrupts: interrupts,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "wabot:", err)
	}
	os.Exit(app.ExitCode(err))
}

// self is how to run this program again, as the system calls it.
func self() []string {
	path, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{path}
}
