// Programming as the macros of a simulated design see it: the actions of golden's jobs, from a file, and their answers.

#include "macro_shell.h"

#include <algorithm>
#include <unordered_map>

#include "macro_shared.h"

namespace {

constexpr int64_t ACTIONS_MAGIC = 0x314e4f4954434149;
constexpr int FIELDS = 7;

struct Action {
    // Pulse, row, reference or 1 for RESET, width, code of the word line, of the bit lines.
    int64_t fields[FIELDS - 1];
    std::vector<uint32_t> mask;
};

struct Queue {
    std::vector<Action> actions;
    size_t next = 0;
};

std::unordered_map<int64_t, Queue> queues;
int64_t seen = 0, expected = 0;

std::string text(const Action& a) {
    std::string told = a.fields[0] ? (a.fields[2] ? "RESET" : "SET") : "comparison";
    const char* names[] = {"row", a.fields[0] ? "" : "reference", "width", "word", "bit"};
    for (int n = 1; n < (a.fields[0] ? FIELDS - 1 : 3); ++n)
        if (*names[n - 1]) told += std::string(" ") + names[n - 1] + " " + std::to_string(a.fields[n]);
    return a.fields[0] ? told + " cells " + hex(a.mask.data(), static_cast<int>(a.mask.size())) : told;
}

// The next action of a crossbar, if it is the one that came.
const Action* take(int tile, int64_t cycle, int crossbar, const Action& came) {
    Queue& queue = queues[id_of(tile, crossbar)];
    const bool any = queue.next < queue.actions.size();
    const Action* wanted = any ? &queue.actions[queue.next] : nullptr;
    if (any && std::equal(came.fields, came.fields + FIELDS - 1, wanted->fields) && (!came.fields[0] || came.mask == wanted->mask)) {
        ++queue.next;
        ++seen;
        return wanted;
    }
    note(came.fields[0] ? "another pulse" : "another comparison",
         "cycle " + std::to_string(cycle) + ", tile " + std::to_string(tile) + ", crossbar " +
             std::to_string(id_of(tile, crossbar)) + ", action " + std::to_string(queue.next) + ": expected " +
             (any ? text(*wanted) : "none") + ", got " + text(came));
    return nullptr;
}

}  // namespace

bool unwritten(int64_t crossbar) {
    const auto found = queues.find(crossbar);
    return found != queues.end() && found->second.next < found->second.actions.size();
}

int64_t actions_seen() { return seen; }

int64_t actions_expected() { return expected; }

void clear_actions() {
    queues.clear();
    seen = expected = 0;
}

extern "C" {

svBit imc_verify(int tile, int64_t cycle, int crossbar, int row, int reference, int cols, svBitVecVal* answers) {
    const int words = (cols + WORD - 1) / WORD;
    std::fill_n(answers, words, 0);
    const Action* found = take(tile, cycle, crossbar, Action{{0, row, reference, 0, 0, 0}, {}});
    if (found) std::copy_n(found->mask.begin(), words, answers);
    return found != nullptr;
}

void imc_pulse(int tile, int64_t cycle, int crossbar, int row, int cols, const svBitVecVal* mask, svBit reset, int width, int word,
               int bit) {
    const int words = (cols + WORD - 1) / WORD;
    take(tile, cycle, crossbar, Action{{1, row, reset, width, word, bit}, std::vector<uint32_t>(mask, mask + words)});
}

const char* imc_actions(const char* path) {
    Reader reader(path);
    const auto head = reader.take<int64_t>(3);
    if (head[0] != ACTIONS_MAGIC) reader.wrong("no actions of jobs");
    const int64_t count = reader.ok() ? head[1] : 0, words = reader.ok() ? head[2] : 0;
    const auto fields = reader.take<int64_t>(count * FIELDS);
    const auto masks = reader.take<uint32_t>(count * words);
    reader.end();
    if (!reader.ok()) return reader.result();
    for (int64_t n = 0; n < count; ++n) {
        Action action{{}, std::vector<uint32_t>(&masks[n * words], &masks[n * words] + words)};
        std::copy_n(&fields[n * FIELDS + 1], FIELDS - 1, action.fields);
        queues[fields[n * FIELDS]].actions.push_back(std::move(action));
    }
    expected += count;
    return nullptr;
}
}
