package whatsapp

import (
	"fmt"
	"log/slog"

	waLog "go.mau.fi/whatsmeow/util/log"

	"wabot/internal/mask"
)

// logger hands whatsmeow's lines to slog, with phone numbers masked and one level down: what
// whatsmeow calls an error it mostly repairs by itself.
type logger struct{ log *slog.Logger }

// newLogger returns the logger for a whatsmeow client.
func newLogger(log *slog.Logger) waLog.Logger { return logger{log} }

func (l logger) Errorf(format string, args ...any) { l.log.Warn(line(format, args)) }
func (l logger) Warnf(format string, args ...any)  { l.log.Info(line(format, args)) }
func (l logger) Infof(format string, args ...any)  { l.log.Debug(line(format, args)) }
func (l logger) Debugf(format string, args ...any) { l.log.Debug(line(format, args)) }

// Sub drops the loggers of raw stanzas: they carry names and texts.
func (l logger) Sub(module string) waLog.Logger {
	switch module {
	case "Recv", "Send":
		return waLog.Noop
	}
	return logger{l.log.With("part", module)}
}

func line(format string, args []any) string {
	return mask.Text(fmt.Sprintf(format, args...))
}
