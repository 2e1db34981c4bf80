package app

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"wabot/internal/mask"
	"wabot/internal/qr"
	"wabot/internal/whatsapp"
)

// screen tells the operator how the link is: what to do goes to the terminal in full, what is
// merely to know goes to the log.
type screen struct {
	out    io.Writer
	codes  *sync.Mutex // held while a code is printed, so that no line of the log comes between its lines
	log    *slog.Logger
	prefix string
	page   string // the address of the page, empty where there is none to name

	mu   sync.Mutex
	last whatsapp.State
	met  bool // who we are was said
}

func newScreen(out io.Writer, codes *sync.Mutex, log *slog.Logger, prefix, page string) *screen {
	return &screen{out: out, codes: codes, log: log, prefix: prefix, page: page}
}

// held is a writer that waits while a lock is held.
type held struct {
	io.Writer
	by *sync.Mutex
}

func (h held) Write(p []byte) (int, error) {
	h.by.Lock()
	defer h.by.Unlock()
	return h.Writer.Write(p)
}

// show tells of a state that differs from the last.
func (s *screen) show(st whatsapp.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last
	s.last = st
	switch {
	case st.QR != "" && st.QR != last.QR:
		s.pairing(st, "Link wabot to your WhatsApp account. On the phone:\n  WhatsApp > Settings > Linked devices > Link a device\nand point the phone at this code. It works until %s and is then replaced by another.\n", func(w io.Writer) {
			// A pairing text is never too long for a QR code.
			_ = qr.Write(w, st.QR, qr.Options{})
			if s.page != "" {
				fmt.Fprintf(w, "Does it not fit, or not scan? http://%s shows it as a picture; or set PAIR_PHONE, to type a code on the phone instead.\n", s.page)
			} else {
				fmt.Fprintln(w, "Does it not fit, or not scan? Set PAIR_PHONE, to type a code on the phone instead.")
			}
		})
	case st.Code != "" && st.Code != last.Code:
		s.pairing(st, "Link wabot to your WhatsApp account. On the phone:\n  WhatsApp > Settings > Linked devices > Link a device > Link with phone number instead\nand type this code. It works until %s and is then replaced by another.\n", func(w io.Writer) {
			fmt.Fprintf(w, "\n    %s\n\n", st.Code)
		})
	case st.Phase == whatsapp.Online && !s.met:
		s.met = true
		fmt.Fprintf(s.out, "Online as %s. To talk to the bot, write to yourself in WhatsApp; in the other chats that ALLOW names, begin with %s.\n", mask.JID(st.Account), s.prefix)
	case st.Phase == last.Phase && st.Reason == last.Reason && st.Next == last.Next:
	case st.Phase == whatsapp.Ended:
		// Run returns it as an error, which is printed.
	case st.Phase == whatsapp.Online && last.Phase == whatsapp.Online:
		// The client has logged what is new, or it is over.
	case st.Phase == whatsapp.Online:
		s.log.Info("online again", "account", mask.JID(st.Account))
	case st.Reason == "":
		s.log.Debug("link", "state", string(st.Phase))
	case st.Phase == whatsapp.Pairing:
		fmt.Fprintf(s.out, "Not linked: %s; %s.\n", st.Reason, st.Next)
	default:
		s.log.Warn(st.Reason, "state", string(st.Phase), "next", st.Next)
	}
}

// standby tells that another process drives the device.
func (s *screen) standby(leader string) {
	fmt.Fprintf(s.out, "Standing by: %s drives this device. This process takes over when that one stops.\n", leader)
}

// pairing prints what to do with a code. Each line is a write of its own, which is passed on in one piece: docker-compose 1.29 breaks
// characters at the end of a piece.
func (s *screen) pairing(st whatsapp.State, text string, code func(io.Writer)) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\n"+text, st.Expires.Local().Format(time.TimeOnly))
	code(&b)
	s.codes.Lock()
	defer s.codes.Unlock()
	for line := range bytes.Lines(b.Bytes()) {
		s.out.Write(line)
	}
}
