// What the parts of the macro shell share: files, faults, bit vectors.

#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "svdpi.h"

constexpr int WORD = 32;

struct Error {
    int64_t count = 0;
    std::string first;
};

inline std::map<std::string, Error> errors;
// What a function tells that returns a C string.
inline std::string answer;

inline void note(const std::string& kind, const std::string& where) {
    Error& error = errors[kind];
    if (!error.count++) error.first = where;
}

inline std::string hex(const uint32_t* words, int count) {
    std::string text = "0x";
    char digits[9];
    for (int i = count; i--;) {
        std::snprintf(digits, sizeof digits, "%08x", words[i]);
        text += digits;
    }
    return text;
}

class Reader {
  public:
    explicit Reader(const char* path) : path_(path), file_(std::fopen(path, "rb")) {
        if (!file_) wrong("cannot be read");
    }
    ~Reader() {
        if (file_) std::fclose(file_);
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    template <typename T>
    std::vector<T> take(size_t count) {
        std::vector<T> items(ok() ? count : 0);
        if (ok() && std::fread(items.data(), sizeof(T), count, file_) != count) wrong("ends early");
        items.resize(count);
        return items;
    }
    void end() {
        if (ok() && std::fgetc(file_) != EOF) wrong("has bytes behind its end");
    }
    void wrong(const std::string& text) {
        if (ok()) answer = path_ + ": " + text;
        failed_ = true;
    }
    bool ok() const { return !failed_; }
    const char* result() const { return ok() ? nullptr : answer.c_str(); }

  private:
    std::string path_;
    std::FILE* file_;
    bool failed_ = false;
};

// The id of a crossbar of a tile.
int64_t id_of(int tile, int crossbar);
// Whether jobs are expected of a crossbar that have not come.
bool unwritten(int64_t crossbar);
int64_t actions_seen();
int64_t actions_expected();
void clear_actions();
