package whatsapptest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// mediaHost is where clients are sent for media.
const mediaHost = "mmg.whatsapp.net"

// maxMedia bounds one upload.
const maxMedia = 100 << 20

// uploadMedia keeps an encrypted file (ciphertext and the first 10 bytes of its MAC) of a
// kind (image, video, audio, document, ...) and returns where it can be fetched.
func (s *Server) uploadMedia(kind string, body []byte) (directPath, url string) {
	sum := sha256.Sum256(body)
	name := base64.RawURLEncoding.EncodeToString(sum[:])
	path := "/v/" + kind + "/" + name + ".enc"
	s.mu.Lock()
	for s.mediaGone[path] != 0 {
		path += "2" // it has been here before
	}
	s.media[path] = bytes.Clone(body)
	s.mu.Unlock()
	directPath = path + "?ccb=11-4&oh=" + name[:16]
	return directPath, "https://" + mediaHost + directPath
}

// downloadMedia is the file that uploadMedia has kept.
func (s *Server) downloadMedia(directPath string) ([]byte, error) {
	path, _, _ := bytes.Cut([]byte(directPath), []byte("?"))
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.media[string(path)]
	if !ok {
		return nil, fmt.Errorf("download %s: not found", directPath)
	}
	return body, nil
}

// ForgetMedia deletes every file from the media host, as a real one does after some weeks. Downloads of them are answered with
// status, 404 or 410.
func (s *Server) ForgetMedia(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.media {
		s.mediaGone[path] = status
	}
	clear(s.media)
}

// serveUpload takes a client's upload; the token in its path is the file's hash.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request) {
	if s.refused(w, &s.faults.uploads) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMedia))
	if err != nil {
		http.Error(w, "unreadable body", http.StatusBadRequest)
		return
	}
	sum := sha256.Sum256(body)
	token := base64.URLEncoding.EncodeToString(sum[:])
	if r.PathValue("token") != token || r.URL.Query().Get("token") != token || r.URL.Query().Get("auth") == "" {
		http.Error(w, "the token is not the hash of the body", http.StatusUnauthorized)
		return
	}
	path, url := s.uploadMedia(r.PathValue("kind"), body)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"url": url, "direct_path": path})
}

// serveDownload gives out a file, in ranges too; the hash that the client asks with must be
// the file's.
func (s *Server) serveDownload(w http.ResponseWriter, r *http.Request) {
	if s.refused(w, &s.faults.downloads) {
		return
	}
	body, err := s.downloadMedia(r.URL.Path)
	if err != nil {
		s.mu.Lock()
		status := s.mediaGone[r.URL.Path]
		s.mu.Unlock()
		http.Error(w, "not found", cmp.Or(status, http.StatusNotFound))
		return
	}
	sum := sha256.Sum256(body)
	if hash := r.URL.Query().Get("hash"); hash != "" && hash != base64.URLEncoding.EncodeToString(sum[:]) {
		http.Error(w, "hash does not match", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
