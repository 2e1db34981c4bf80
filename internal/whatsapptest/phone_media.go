package whatsapptest

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/cbcutil"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"google.golang.org/protobuf/proto"
)

// mediaKind is what a file is to the media host, and in the derivation of its keys.
type mediaKind struct{ host, info string }

var (
	imageMedia    = mediaKind{"image", "WhatsApp Image Keys"}
	videoMedia    = mediaKind{"video", "WhatsApp Video Keys"}
	audioMedia    = mediaKind{"audio", "WhatsApp Audio Keys"}
	documentMedia = mediaKind{"document", "WhatsApp Document Keys"}
)

// file is where an encrypted file is and how it opens: the fields that all media messages share.
type file struct {
	url, path            string
	key, sha256, encHash []byte
	length               uint64
}

// mediaKeys derives the vector, the cipher key and the MAC key of a file.
func mediaKeys(key []byte, kind mediaKind) (iv, cipherKey, macKey []byte, err error) {
	expanded, err := hkdf.Key(sha256.New, key, nil, kind.info, 112)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("derive media keys: %w", err)
	}
	return expanded[:16], expanded[16:48], expanded[48:80], nil
}

func mediaMAC(macKey, iv, ciphertext []byte) []byte {
	mac := hmac.New(sha256.New, macKey)
	mac.Write(iv)
	mac.Write(ciphertext)
	return mac.Sum(nil)[:10]
}

// sealMedia encrypts a file under a new key and returns the bytes for the media host.
func sealMedia(data []byte, kind mediaKind) (body []byte, f file, err error) {
	f.key = make([]byte, 32)
	rand.Read(f.key)
	return sealMediaWith(f.key, data, kind)
}

// sealMediaWith is sealMedia under a key that there is.
func sealMediaWith(key, data []byte, kind mediaKind) (body []byte, f file, err error) {
	f.key = key
	iv, cipherKey, macKey, err := mediaKeys(f.key, kind)
	if err != nil {
		return nil, file{}, err
	}
	ciphertext, err := cbcutil.Encrypt(cipherKey, iv, data)
	if err != nil {
		return nil, file{}, fmt.Errorf("encrypt media: %w", err)
	}
	body = append(ciphertext, mediaMAC(macKey, iv, ciphertext)...)
	plainHash, encHash := sha256.Sum256(data), sha256.Sum256(body)
	f.sha256, f.encHash, f.length = plainHash[:], encHash[:], uint64(len(data))
	return body, f, nil
}

// openMedia checks and decrypts what the media host has for a message.
func openMedia(body []byte, f file, kind mediaKind) ([]byte, error) {
	if len(body) <= 10 {
		return nil, fmt.Errorf("open media: only %d bytes", len(body))
	}
	if hash := sha256.Sum256(body); !hmac.Equal(hash[:], f.encHash) {
		return nil, errors.New("open media: hash of the encrypted file differs")
	}
	iv, cipherKey, macKey, err := mediaKeys(f.key, kind)
	if err != nil {
		return nil, err
	}
	ciphertext, mac := body[:len(body)-10], body[len(body)-10:]
	if !hmac.Equal(mediaMAC(macKey, iv, ciphertext), mac) {
		return nil, errors.New("open media: MAC differs")
	}
	data, err := cbcutil.Decrypt(cipherKey, iv, bytes.Clone(ciphertext)) // it decrypts in place
	if err != nil {
		return nil, fmt.Errorf("open media: %w", err)
	}
	if hash := sha256.Sum256(data); !hmac.Equal(hash[:], f.sha256) {
		return nil, errors.New("open media: hash of the file differs")
	}
	if uint64(len(data)) != f.length {
		return nil, fmt.Errorf("open media: %d bytes, not the %d announced", len(data), f.length)
	}
	return data, nil
}

// ForgetMedia deletes the phone's own copies of all files, as people do to have room.
func (p *Phone) ForgetMedia() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.messages {
		r.Media = nil
	}
}

// uploadAgain answers a companion that could not download a file: it uploads the phone's own copy, or says that there is none. The
// request is readable for those who have the file's key, and so is the answer.
func (p *Phone) uploadAgain(n waBinary.Node, companion types.JID) error {
	rmr := n.GetChildByTag("rmr")
	chat := p.canonical(address(rmr, "jid"))
	ref := messageRef{chat, chat, text(n, "id")}
	switch {
	case text(rmr, "from_me") == "true":
		ref.author = p.LID()
	case chat.Server == types.GroupServer:
		ref.author = p.canonical(address(rmr, "participant"))
	}
	p.mu.Lock()
	var data []byte
	var content *waE2E.Message
	if r := p.index[ref]; r != nil {
		data, content = r.Media, r.content
	}
	p.mu.Unlock()
	from := p.address(p.LID())
	answer := func(child waBinary.Node) {
		p.server.mu.Lock()
		defer p.server.mu.Unlock()
		if d := p.person.account.devices[companion.Device]; d != nil {
			p.server.notify(d, waBinary.Attrs{"type": "mediaretry", "from": from, "id": ref.id}, rmr, child)
		}
	}
	if data == nil {
		answer(waBinary.Node{Tag: "error", Attrs: waBinary.Attrs{"code": 2}})
		return nil
	}
	f, kind, _ := fileOf(content)
	key, err := hkdf.Key(sha256.New, f.key, nil, "WhatsApp Media Retry Notification", 32)
	if err != nil {
		return fmt.Errorf("derive the key of the request: %w", err)
	}
	encrypt := n.GetChildByTag("encrypt")
	asked, err := gcmutil.Decrypt(key, childBytes(encrypt, "enc_iv"), childBytes(encrypt, "enc_p"), []byte(ref.id))
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	var receipt waMmsRetry.ServerErrorReceipt
	if err := proto.Unmarshal(asked, &receipt); err != nil || receipt.GetStanzaID() != ref.id {
		return fmt.Errorf("the request is for message %q: %w", receipt.GetStanzaID(), err)
	}
	body, _, err := sealMediaWith(f.key, data, kind)
	if err != nil {
		return err
	}
	path, _ := p.server.uploadMedia(kind.host, body)
	iv := make([]byte, 12)
	rand.Read(iv)
	sealed, err := gcmutil.Encrypt(key, iv, encoded(&waMmsRetry.MediaRetryNotification{
		StanzaID: &ref.id, DirectPath: &path, Result: waMmsRetry.MediaRetryNotification_SUCCESS.Enum(),
	}), []byte(ref.id))
	if err != nil {
		return fmt.Errorf("encrypt the answer: %w", err)
	}
	answer(waBinary.Node{Tag: "encrypt", Content: []waBinary.Node{{Tag: "enc_p", Content: sealed}, {Tag: "enc_iv", Content: iv}}})
	return nil
}

// attach writes where the file is into the media part of msg.
func (f file) attach(msg *waE2E.Message) {
	switch {
	case msg.ImageMessage != nil:
		m := msg.ImageMessage
		m.URL, m.DirectPath, m.MediaKey, m.FileSHA256, m.FileEncSHA256, m.FileLength = &f.url, &f.path, f.key, f.sha256, f.encHash, proto.Uint64(f.length)
	case msg.VideoMessage != nil:
		m := msg.VideoMessage
		m.URL, m.DirectPath, m.MediaKey, m.FileSHA256, m.FileEncSHA256, m.FileLength = &f.url, &f.path, f.key, f.sha256, f.encHash, proto.Uint64(f.length)
	case msg.AudioMessage != nil:
		m := msg.AudioMessage
		m.URL, m.DirectPath, m.MediaKey, m.FileSHA256, m.FileEncSHA256, m.FileLength = &f.url, &f.path, f.key, f.sha256, f.encHash, proto.Uint64(f.length)
	case msg.DocumentMessage != nil:
		m := msg.DocumentMessage
		m.URL, m.DirectPath, m.MediaKey, m.FileSHA256, m.FileEncSHA256, m.FileLength = &f.url, &f.path, f.key, f.sha256, f.encHash, proto.Uint64(f.length)
	case msg.StickerMessage != nil:
		m := msg.StickerMessage
		m.URL, m.DirectPath, m.MediaKey, m.FileSHA256, m.FileEncSHA256, m.FileLength = &f.url, &f.path, f.key, f.sha256, f.encHash, proto.Uint64(f.length)
	}
}

// fileOf reads where the file of an unwrapped message is. ok is false for one without a file.
func fileOf(msg *waE2E.Message) (f file, kind mediaKind, ok bool) {
	type media interface {
		GetDirectPath() string
		GetMediaKey() []byte
		GetFileSHA256() []byte
		GetFileEncSHA256() []byte
		GetFileLength() uint64
	}
	var m media
	switch {
	case msg.ImageMessage != nil:
		m, kind = msg.ImageMessage, imageMedia
	case msg.StickerMessage != nil:
		m, kind = msg.StickerMessage, imageMedia
	case msg.VideoMessage != nil:
		m, kind = msg.VideoMessage, videoMedia
	case msg.AudioMessage != nil:
		m, kind = msg.AudioMessage, audioMedia
	case msg.DocumentMessage != nil:
		m, kind = msg.DocumentMessage, documentMedia
	default:
		return file{}, mediaKind{}, false
	}
	return file{
		path: m.GetDirectPath(), key: m.GetMediaKey(),
		sha256: m.GetFileSHA256(), encHash: m.GetFileEncSHA256(), length: m.GetFileLength(),
	}, kind, true
}
