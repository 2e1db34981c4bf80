package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"

	"wabot/internal/mask"
)

// logger hands whatsmeow's lines to slog, with phone numbers masked and one level down: what
// whatsmeow calls an error it mostly repairs by itself.
type logger struct {
	log *slog.Logger
	// replaced is called when the server says that another connection has replaced ours.
	replaced func()
	// uneven is called after a send when the server knows other devices of the receiver: whatsmeow reads their list again for the next
	// message, and says so in the log alone.
	uneven func()
}

func (l logger) Errorf(format string, args ...any) {
	level := slog.LevelWarn
	if slices.ContainsFunc(args, brokenOff) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, line(format, args))
}
func (l logger) Warnf(format string, args ...any) {
	if strings.HasPrefix(format, "Server returned different participant list hash") {
		l.uneven()
	}
	l.log.Info(line(format, args))
}
func (l logger) Infof(format string, args ...any) { l.log.Debug(line(format, args)) }
func (l logger) Debugf(format string, args ...any) {
	if !private(format) {
		l.log.Debug(line(format, args))
	}
}

// brokenOff reports whether a value is the error of what ended with its connection: that this broke, or was
// closed, is said elsewhere, and whatsmeow does what it was at again on the next.
func brokenOff(value any) bool {
	err, ok := value.(error)
	var gone *whatsmeow.DisconnectedError
	return ok && (errors.As(err, &gone) || errors.Is(err, context.Canceled))
}

// private reports whether a line of whatsmeow's carries a person's name, or a stanza as it came.
func private(format string) bool {
	for _, begin := range []string{"Push name of", "Business name of", "Errored frame hex"} {
		if strings.HasPrefix(format, begin) {
			return true
		}
	}
	return false
}

// Sub drops the loggers of raw stanzas: they carry names and texts. But what comes is looked
// at for a stream's last word, see tap.
func (l logger) Sub(module string) waLog.Logger {
	switch module {
	case "Recv":
		return tap{waLog.Noop, l.replaced}
	case "Send":
		return waLog.Noop
	}
	return logger{l.log.With("part", module), l.replaced, l.uneven}
}

// tap looks at each stanza as whatsmeow logs it on receipt. whatsmeow drops stanzas that are still
// queued when the connection ends, and then connects again: also after the one that says
// that another process has replaced us, which must not be answered with a fight.
type tap struct {
	waLog.Logger
	replaced func()
}

func (t tap) Debugf(_ string, args ...any) {
	if len(args) != 1 {
		return
	}
	node, ok := args[0].(*waBinary.Node)
	if !ok || node.Tag != "stream:error" {
		return
	}
	conflict := node.GetChildByTag("conflict")
	if conflict.AttrGetter().OptionalString("type") == "replaced" {
		t.replaced()
	}
}

func line(format string, args []any) string {
	return mask.Text(fmt.Sprintf(format, args...))
}
