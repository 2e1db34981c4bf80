package app

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"wabot/internal/config"
	"wabot/internal/llm"
	"wabot/internal/mask"
	"wabot/internal/media"
	"wabot/internal/mongostore"
	"wabot/internal/sqlitestore"
	"wabot/internal/transfer"
	"wabot/internal/whatsapp"
)

// level is how bad a finding is.
type level int

const (
	ok level = iota
	skipped
	warning
	wrong
)

func (l level) String() string { return [...]string{"ok", "skipped", "warning", "error"}[l] }

// doctor looks at everything that the bot needs, one after the other, and says what to do. It changes nothing that
// a running wabot uses.
type doctor struct {
	Process
	cfg   config.Config
	wrong int
}

// examining bounds each look at something outside this machine.
const examining = 20 * time.Second

func examine(ctx context.Context, p Process, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	d := &doctor{Process: p}
	cfg, warnings, err := config.Load(p.Getenv, p.Dotenv)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.say(wrong, "settings", strings.TrimSpace(line), "")
		}
		for _, w := range warnings {
			d.say(warning, "settings", w, "")
		}
		return &configError{errors.New("mend the settings in .env or in the environment (.env.example tells what each means); then doctor can look at the rest")}
	}
	d.cfg = cfg
	for _, w := range warnings {
		d.say(warning, "settings", w, "")
	}
	if len(warnings) == 0 {
		d.say(ok, "settings", "can be read", "")
	}
	if key := cfg.WhatsApp.NoiseRootKey; key != nil {
		d.say(warning, "settings", "WHATSAPP_NOISE_ROOT_KEY is set: for tests with a simulated WhatsApp only", "remove it to reach the real one")
	}
	d.dotenv()
	d.files()
	if cfg.Store.Mongo {
		d.mongo(ctx)
	} else {
		d.sqlite(ctx)
	}
	d.models(ctx)
	d.speech(ctx)
	d.whatsapp(ctx)
	d.daemon(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if d.wrong > 0 {
		return fmt.Errorf("doctor has found %d %s", d.wrong, plural("error", d.wrong))
	}
	return nil
}

// say prints a finding, and what to do.
func (d *doctor) say(l level, what, text, do string) {
	if l == wrong {
		d.wrong++
	}
	fmt.Fprintf(d.Stdout, "%-8s %-9s %s\n", l, what, text)
	if do != "" {
		fmt.Fprintf(d.Stdout, "%-18s -> %s\n", "", do)
	}
}

// private says whether a file is closed to other users.
func (d *doctor) private(what, path string, info fs.FileInfo, mode string) {
	if info.Mode().Perm()&0o077 == 0 {
		return
	}
	d.say(warning, what, fmt.Sprintf("other users of this machine can open %s (%s), which holds secrets", path, info.Mode().Perm()), fmt.Sprintf("chmod %s %s", mode, path))
}

func (d *doctor) dotenv() {
	info, err := os.Stat(d.Dotenv)
	if err == nil {
		d.private("settings", d.Dotenv, info, "600")
	} else if !errors.Is(err, fs.ErrNotExist) {
		d.say(wrong, "settings", "look at "+d.Dotenv+": "+err.Error(), "make it readable for this user")
	}
}

// Less than this of a disk's space is an error, or a warning.
const (
	roomLeast = 50 << 20
	roomLow   = 500 << 20
)

// files looks at SESSION_DIR.
func (d *doctor) files() {
	dir := d.cfg.Store.SessionDir
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(dir); err == nil {
			d.say(wrong, "files", fmt.Sprintf("SESSION_DIR %s is a link that leads nowhere", dir), "make the directory that it leads to, or set SESSION_DIR to another")
			return
		}
		parent := filepath.Dir(dir)
		if _, err := os.Stat(parent); err != nil {
			d.say(wrong, "files", fmt.Sprintf("SESSION_DIR %s cannot be made: %v", dir, err), "make the directory above it, or set SESSION_DIR to another")
			return
		}
		d.say(ok, "files", dir+" is not there yet; the first start makes it", "")
		d.space(parent)
		return
	}
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory")
	}
	if err != nil {
		d.say(wrong, "files", fmt.Sprintf("SESSION_DIR %s: %v", dir, err), "set SESSION_DIR to a directory of this user")
		return
	}
	f, err := os.CreateTemp(dir, "wabot.doctor.*")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		d.say(wrong, "files", fmt.Sprintf("SESSION_DIR %s cannot be written by uid %d: %v", dir, os.Getuid(), err), fmt.Sprintf("sudo chown -R %d %s", os.Getuid(), dir))
	} else {
		d.say(ok, "files", dir+" can be written", "")
	}
	d.private("files", dir, info, "700")
	if path := filepath.Join(dir, sqlitestore.File); !d.cfg.Store.Mongo {
		if info, err := os.Stat(path); err == nil {
			d.private("files", path, info, "600")
		}
	}
	d.space(dir)
}

// space looks how much room the disk has that holds path.
func (d *doctor) space(path string) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		d.say(warning, "disk", fmt.Sprintf("how much room there is cannot be told: %v", err), "")
		return
	}
	d.room(path, s.Bavail*uint64(s.Bsize))
}

func (d *doctor) room(path string, free uint64) {
	text := fmt.Sprintf("%d MB are free where %s lies", free>>20, path)
	switch {
	case free < roomLeast:
		d.say(wrong, "disk", text, "make room: without it no message can be stored, and none is acknowledged")
	case free < roomLow:
		d.say(warning, "disk", text, "make room before it is full")
	default:
		d.say(ok, "disk", text, "")
	}
}

// sqlite looks at the file store.
func (d *doctor) sqlite(ctx context.Context) {
	e, err := sqlitestore.Examine(ctx, d.cfg.Store.SessionDir)
	const restore = "stop wabot, move wabot.db with its -wal and -shm files away, and put a backup in its place (wabot session import FILE), or start wabot to link anew"
	switch {
	case err != nil:
		d.say(wrong, "store", mask.Text(err.Error()), "") // it says what to do
		return
	case !e.Exists:
		d.say(ok, "store", "no session yet; the first start shows a QR code", "")
		return
	}
	for _, w := range e.Wrong {
		d.say(wrong, "store", w, restore)
	}
	if len(e.Wrong) > 0 {
		return
	}
	d.say(ok, "store", "the database file is whole", "")
	if e.Busy != "" {
		d.say(skipped, "store", "what is in it: a running wabot uses it ("+e.Busy+")", "stop it to have the rows looked at, too")
		return
	}
	d.contents(ctx)
}

// mongo looks at the database.
func (d *doctor) mongo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, examining)
	defer cancel()
	e, err := mongostore.Examine(ctx, mongoOptions(d.cfg.Store), leaseKey)
	if err != nil {
		do := "see the README on MongoDB"
		switch {
		case errors.Is(err, mongostore.ErrOutage):
			do = "start MongoDB, and check the host and port in MONGO_URL (with Compose: docker-compose ps, docker-compose logs mongodb)"
		case errors.Is(err, mongostore.ErrLogin):
			do = "put MongoDB's password into MONGO_PASSWORD or MONGO_URL (with Compose, MongoDB takes MONGO_PASSWORD over at docker-compose up -d, if MONGO_ROOT_PASSWORD is root's: README, Change the database's passwords)"
		case errors.Is(err, mongostore.ErrKey), errors.Is(err, mongostore.ErrUnacknowledged):
			do = "" // it says
		case errors.Is(err, mongostore.ErrRights):
			do = "db.grantRolesToUser('wabot', [{role: 'readWrite', db: '<database>'}])"
		}
		d.say(wrong, "database", mask.Text(err.Error()), do)
		return
	}
	text := fmt.Sprintf("%s on MongoDB %s: a write, journalled, and its way back took %d ms", e.Database, e.Server, e.Latency.Milliseconds())
	switch {
	case e.Latency > time.Second:
		d.say(warning, "database", text, "each message takes about a dozen of these: look for a slow disk or network")
	default:
		d.say(ok, "database", text, "")
	}
	switch {
	case e.Empty:
		d.say(ok, "database", "it is empty; the first start prepares it and shows a QR code", "")
		return
	case len(e.Missing) > 0:
		d.say(warning, "database", "indexes are missing: "+strings.Join(e.Missing, "; "), "restart wabot, which makes them")
	default:
		d.say(ok, "database", "all indexes are there", "")
	}
	if e.Leader.Epoch > 0 && !e.Leader.Released {
		d.say(ok, "database", "the device is driven by "+e.Leader.Owner+", or was until that was killed", "")
	}
	d.contents(ctx)
}

// contents looks at the rows of the store.
func (d *doctor) contents(ctx context.Context) {
	c := sessions{d.Process, d.cfg.Store, d.cfg.Backup, newLogger(io.Discard, d.cfg.Log)}
	store, err := c.open(ctx, c.chosen(), use{look: true, there: true})
	if err != nil {
		d.say(wrong, "store", mask.Text(err.Error()), "")
		return
	}
	defer store.Close()
	report, err := transfer.Check(ctx, store)
	var more []string
	if err == nil {
		more, err = store.Problems(ctx)
	}
	if err != nil {
		d.say(wrong, "store", mask.Text(err.Error()), "wabot session verify says more")
		return
	}
	for _, w := range append(report.Wrong, more...) {
		d.say(wrong, "store", w, "a session that cannot be read heals with its contact's next message; for other rows restore a backup")
	}
	var refusal transfer.Refusal
	err = transfer.Usable(ctx, store)
	old := ""
	if err == nil {
		old, err = store.older(ctx)
	}
	online, errOnline := whatsapp.LastOnline(ctx, store)
	switch err = cmp.Or(err, errOnline); {
	case errors.As(err, &refusal):
		d.say(wrong, "session", string(refusal), "")
	case err != nil:
		d.say(wrong, "session", mask.Text(err.Error()), "")
	case report.Device == nil:
		d.say(warning, "session", "no account is linked", "start wabot and scan the QR code")
	case old != "":
		d.say(warning, "session", "it is an older state of itself: "+old, "the next start makes it safe by itself")
	default:
		d.say(ok, "session", fmt.Sprintf("%s is linked, and was last online %s", mask.JID(report.Device.JID), when(online)), "")
	}
}

// models asks each model that answers with text for one token. A picture costs too much for a look.
func (d *doctor) models(ctx context.Context) {
	for _, e := range d.cfg.Models {
		if e.Draws != "" {
			d.say(skipped, "model", e.Name+" draws, and a picture costs money", fmt.Sprintf("send %s and a few words to try it", e.Prefix))
			continue
		}
		d.model(ctx, e)
	}
}

func (d *doctor) model(ctx context.Context, e config.Entry) {
	client := newClient(e, llm.Options{Total: examining, Idle: examining, MaxRetries: -1})
	ask := func(tokens int) error {
		_, err := client.Complete(ctx, llm.Prompt{Messages: []llm.Message{{Role: llm.User, Text: "Say: ok"}}, MaxTokens: tokens})
		return err
	}
	begin := time.Now()
	err := ask(1)
	var failed *llm.Error
	if errors.As(err, &failed) && (failed.Kind == llm.BadAnswer || failed.Kind == llm.BadRequest) {
		// A model that thinks first says nothing within one token, or refuses so few.
		err = ask(0)
	}
	if err != nil {
		// The error's own text says what to do.
		d.say(wrong, "model", e.Name+": "+mask.Text(err.Error()), "")
		return
	}
	d.say(ok, "model", fmt.Sprintf("%s (%s) answers, in %.1f s", e.Name, e.Model, time.Since(begin).Seconds()), "")
}

// speech has a second of silence written down and a word spoken, where that is on. Without either the bot answers still, by texts
// and to texts, so nothing here is an error.
func (d *doctor) speech(ctx context.Context) {
	m := d.cfg.Media
	listens := m.Transcribe.On == config.SwitchOn && m.AudioMB > 0
	switch {
	case !listens && m.VoiceReply == config.VoiceAuto:
		d.say(warning, "voice", "VOICE_REPLY=auto is for voice messages, and none is listened to", "set TRANSCRIBE_ENABLED=True and AUDIO_MAX_MB above 0, or VOICE_REPLY=off")
	case !listens:
		d.say(ok, "voice", "recordings are not written down (TRANSCRIBE_ENABLED); who sends one is told so", "")
	default:
		begin := time.Now()
		if _, err := d.service(m.Transcribe).Transcribe(ctx, llm.Media{MIME: "audio/wav", Data: silentWAV()}, ""); err != nil {
			d.say(warning, "voice", "recordings cannot be written down: "+mask.Text(err.Error()), "look at the settings TRANSCRIBE_..., or set TRANSCRIBE_ENABLED=False")
		} else {
			d.say(ok, "voice", fmt.Sprintf("recordings are written down by %s, in %.1f s", m.Transcribe.Model, time.Since(begin).Seconds()), "")
		}
	}
	if m.VoiceReply == config.VoiceOff {
		if m.Speech.On == config.SwitchOn {
			d.say(skipped, "voice", "answers are spoken only where !voice asks for it, by "+m.Speech.Model, "set VOICE_REPLY=auto to have that looked at, too")
		}
		return
	}
	begin := time.Now()
	sound, err := d.service(m.Speech).Speak(ctx, "ok", m.Voice)
	if err == nil {
		if _, unlike := media.Measure(sound.Data); unlike != nil {
			err = fmt.Errorf("%s sends %s, and WhatsApp takes Opus in Ogg alone", m.Speech.Model, sound.MIME)
		}
	}
	if err != nil {
		d.say(warning, "voice", "answers cannot be spoken and will be texts: "+mask.Text(err.Error()), "look at the settings SPEECH_..., or set VOICE_REPLY=off")
		return
	}
	d.say(ok, "voice", fmt.Sprintf("answers are spoken by %s, in %.1f s", m.Speech.Model, time.Since(begin).Seconds()), "")
}

// service is the client of a service for recordings or voices, which is asked once.
func (d *doctor) service(s config.Speech) *llm.Client {
	return llm.New(llm.Options{BaseURL: s.BaseURL, Key: s.Key.Reveal(), Model: s.Model, Total: examining, MaxRetries: -1})
}

// silentWAV is a second without a sound: a WAV file of 16-bit samples in one channel, 8000 a second.
func silentWAV() []byte {
	const rate, size = 8000, 2
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00")
	b = binary.LittleEndian.AppendUint32(b, rate)
	b = binary.LittleEndian.AppendUint32(b, rate*size)
	b = binary.LittleEndian.AppendUint16(b, size)
	b = binary.LittleEndian.AppendUint16(b, size*8)
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, rate*size)
	b = append(b, make([]byte, rate*size)...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// whatsapp asks whether WhatsApp can be reached, and what time it is there.
func (d *doctor) whatsapp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, examining)
	defer cancel()
	r, err := whatsapp.Reach(ctx, d.WhatsApp)
	if err != nil {
		d.say(wrong, "whatsapp", "it cannot be reached: "+err.Error(), "let this machine connect to web.whatsapp.com at port 443, or set HTTPS_PROXY")
	} else {
		d.say(ok, "whatsapp", "it can be reached", "")
	}
	switch {
	case r.VersionErr == nil:
		d.say(ok, "whatsapp", fmt.Sprintf("its web client has version %s; this wabot was built with %s", r.Latest, r.BuiltIn), "")
	case err == nil:
		d.say(warning, "whatsapp", r.VersionErr.Error(), "update wabot if WhatsApp refuses it as outdated")
	}
	d.clock(r.At, r.Date)
}

// clock compares this machine's time with WhatsApp's.
func (d *doctor) clock(ours, theirs time.Time) {
	if theirs.IsZero() {
		d.say(skipped, "clock", "nobody could be asked for the time", "")
		return
	}
	off := ours.Sub(theirs).Round(time.Second)
	switch size := max(off, -off); {
	case size > 5*time.Minute:
		d.say(wrong, "clock", fmt.Sprintf("this machine's clock is off by %s", off), "set it, and have it kept right (timedatectl set-ntp true)")
	case size > 30*time.Second:
		d.say(warning, "clock", fmt.Sprintf("this machine's clock is off by %s", off), "have it kept right (timedatectl set-ntp true)")
	default:
		d.say(ok, "clock", "it is right", "")
	}
}

// daemon asks the running wabot how it is.
func (d *doctor) daemon(ctx context.Context) {
	addr, err := reachable(d.cfg.HTTP.Addr)
	if err != nil {
		d.say(skipped, "running", err.Error(), "")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		d.say(wrong, "running", err.Error(), "")
		return
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		d.say(ok, "running", "no wabot answers at HTTP_ADDR", "")
		return
	}
	defer resp.Body.Close()
	var answer struct {
		Ready               bool
		State, Reason, Next string
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&answer); err != nil || answer.State == "" {
		d.say(warning, "running", "what answers at HTTP_ADDR "+d.cfg.HTTP.Addr+" is not a wabot", "set HTTP_ADDR to an address that is free")
		return
	}
	text := "a wabot runs here: " + answer.State
	if answer.Reason != "" {
		text += ", " + answer.Reason
	}
	if answer.Ready {
		d.say(ok, "running", text, "")
		return
	}
	d.say(warning, "running", text, answer.Next)
}
