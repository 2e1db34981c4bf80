package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/chat"
	"wabot/internal/mask"
)

const (
	// phoneAnswers is how long the phone is awaited that is asked to upload something again.
	phoneAnswers = 30 * time.Second
	// sealing is what the encryption of a medium adds to it at most, in bytes.
	sealing = 16 + 10
	// leftover matches the files that a killed process may leave.
	leftover = "wabot-media-*"
)

// Fetch downloads what m carries, or, where quoted is set, what the message carries that m quotes: most bytes at most, whatever
// its author says of its size. What WhatsApp's server has deleted is asked of the account's phone. The error is
// chat.ErrTooLarge, ErrGone or ErrBroken where no other try helps.
//
// On the way it is a file without a name in TempDir: the system removes it, whatever becomes of this process.
func (c *Client) Fetch(ctx context.Context, m chat.Message, quoted bool, most int64) ([]byte, error) {
	w := wanted{Media: m.Media, kind: m.Kind, id: m.ID, sender: m.Sender, fromMe: m.FromMe, in: m}
	if quoted {
		w = wanted{Media: m.Quoted.Media, kind: m.Quoted.Kind, id: m.Quoted.ID, sender: m.Quoted.Sender, in: m}
	}
	kind, known := mediaKinds[w.kind]
	switch {
	case w.Media == nil, !known, w.Path == "", len(w.Key) != 32, len(w.SHA256) != 32, len(w.EncSHA256) != 32:
		return nil, chat.ErrBroken
	case w.Size > uint64(most):
		return nil, chat.ErrTooLarge
	}
	wm, me := c.client()
	if wm == nil || !wm.IsLoggedIn() {
		return nil, ErrOffline
	}
	data, err := c.download(ctx, wm, w, kind, w.Path, most)
	if !deleted(err) {
		return data, fetchError(err)
	}
	path, err := c.askPhone(ctx, wm, me, w)
	if err != nil {
		return nil, fetchError(err)
	}
	data, err = c.download(ctx, wm, w, kind, path, most)
	if deleted(err) {
		err = chat.ErrGone
	}
	return data, fetchError(err)
}

// wanted is what Fetch is to fetch, and the message that it belongs to.
type wanted struct {
	*chat.Media
	kind       chat.Kind
	id, sender string
	fromMe     bool
	in         chat.Message // the one at hand, in the same chat
}

// mediaKinds are the kinds that can be fetched, as whatsmeow calls them.
var mediaKinds = map[chat.Kind]whatsmeow.MediaType{
	chat.Image: whatsmeow.MediaImage, chat.Sticker: whatsmeow.MediaImage, chat.Voice: whatsmeow.MediaAudio, chat.Audio: whatsmeow.MediaAudio,
	chat.Video: whatsmeow.MediaVideo, chat.Document: whatsmeow.MediaDocument,
}

// deleted reports whether a download failed because the server does not have it any more.
func deleted(err error) bool {
	return errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith403) || errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith404) || errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410)
}

// fetchError makes of whatsmeow's error one of chat's, or one without an address in it.
func fetchError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, chat.ErrTooLarge):
		return chat.ErrTooLarge
	case errors.Is(err, chat.ErrGone):
		return chat.ErrGone
	case errors.Is(err, whatsmeow.ErrInvalidMediaSHA256), errors.Is(err, whatsmeow.ErrInvalidMediaEncSHA256), errors.Is(err, whatsmeow.ErrInvalidMediaHMAC), errors.Is(err, whatsmeow.ErrTooShortFile):
		return chat.ErrBroken
	}
	return fmt.Errorf("fetch media: %s", mask.Text(err.Error()))
}

// download downloads to a file of at most most bytes and reads it. whatsmeow checks the hashes, before and after it decrypts.
func (c *Client) download(ctx context.Context, wm *whatsmeow.Client, w wanted, kind whatsmeow.MediaType, path string, most int64) ([]byte, error) {
	file, err := os.CreateTemp(c.TempDir, leftover)
	if err != nil {
		return nil, fmt.Errorf("make a file for it: %w", err)
	}
	defer os.Remove(file.Name()) // where an open file cannot be removed
	defer file.Close()
	// Where it can, nothing is left of it, however this process ends.
	_ = os.Remove(file.Name())
	err = wm.DownloadMediaWithPathToFile(ctx, path, w.EncSHA256, w.SHA256, w.Key, kind, "", false, &bounded{File: file, most: most + sealing})
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = chat.ErrTooLarge
	}
	return data, err
}

// bounded is a file that takes so many bytes and no more. It is not an *os.File to whatsmeow, which would have the
// system set aside as much room as the server says that it sends.
type bounded struct {
	*os.File
	most int64
}

func (b *bounded) Write(data []byte) (int, error) {
	at, err := b.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at+int64(len(data)) > b.most {
		return 0, chat.ErrTooLarge
	}
	return b.File.Write(data)
}

// ReadFrom keeps io.Copy from passing Write by.
func (b *bounded) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{b}, r)
}

// askPhone asks the account's phone to upload again what the server has deleted, and returns where it is then.
func (c *Client) askPhone(ctx context.Context, wm *whatsmeow.Client, me self, w wanted) (path string, err error) {
	info := types.MessageInfo{ID: w.id}
	var chatErr, senderErr error
	info.Chat, chatErr = types.ParseJID(w.in.Chat)
	info.Sender, senderErr = types.ParseJID(w.sender)
	if chatErr != nil || senderErr != nil {
		return "", chat.ErrGone
	}
	info.IsGroup, info.IsFromMe = w.in.Group, w.fromMe || me.is(info.Sender)

	answer := make(chan *events.MediaRetry, 1)
	c.mu.Lock()
	c.reuploads[w.id] = append(c.reuploads[w.id], answer)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		left := slices.DeleteFunc(c.reuploads[w.id], func(a chan *events.MediaRetry) bool { return a == answer })
		if c.reuploads[w.id] = left; len(left) == 0 {
			delete(c.reuploads, w.id)
		}
	}()
	c.Log.Debug("WhatsApp's server has not got a medium any more; asking the phone for it", "id", w.id)
	// To WhatsApp's server it is a receipt of that message: see MarkRead.
	if err := c.Sync(ctx); err != nil {
		return "", fmt.Errorf("have the message on the disk: %w", err)
	}
	if err := wm.SendMediaRetryReceipt(ctx, &info, w.Key); err != nil {
		return "", fmt.Errorf("ask the phone for it: %w", err)
	}
	timer := time.NewTimer(phoneAnswers)
	defer timer.Stop()
	select {
	case evt := <-answer:
		got, err := whatsmeow.DecryptMediaRetryNotification(evt, w.Key)
		if err != nil || got.GetResult() != waMmsRetry.MediaRetryNotification_SUCCESS {
			return "", chat.ErrGone
		}
		return got.GetDirectPath(), nil
	case <-timer.C:
		return "", errors.New("the server has deleted it, and the phone does not answer")
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// reuploaded hands the phone's answer to who waits for it.
func (c *Client) reuploaded(evt *events.MediaRetry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, answer := range c.reuploads[evt.MessageID] {
		select {
		case answer <- evt:
		default: // it has one
		}
	}
}

// removeLeftovers removes the files that a killed process may have left.
func (c *Client) removeLeftovers() {
	dir := c.TempDir
	if dir == "" {
		dir = os.TempDir()
	}
	names, _ := filepath.Glob(filepath.Join(dir, leftover)) // the pattern is well formed
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			c.Log.Warn("remove what an earlier process has left", "file", filepath.Base(name), "err", err)
		}
	}
}
