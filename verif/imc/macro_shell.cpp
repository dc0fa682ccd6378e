// The crossbar macros of a simulated design: column values from a file, keyed noise, comparators, checks of the contract.
//
// Numbers are those of golden/imc/macro.py, draws those of golden/imc/noise.py, files those of verif/imc/macro_shell.py.

#include "macro_shell.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "macro_shared.h"

namespace {

constexpr int64_t MACROS_MAGIC = 0x31534f5243414d49, VALUES_MAGIC = 0x3153554c41564d49;
constexpr uint64_t GAMMA = 0x9e3779b97f4a7c15;
constexpr int FRACTION_BITS = 12, QUANTILE_BITS = 11, MACRO_FIELDS = 10, PHASE_BITS = 40;
constexpr int READ = 6, COMPARE = 7, SAMPLE = -1;

struct Macro {
    int64_t tile, seed, read_scale, compare_scale, trim_scale, step, bits, flash, adcs;
    std::vector<int64_t> thresholds;
};

struct Tile {
    int rows, cols, mux, adcs, adc_bits, flash_bits, trim_bits;
    const Macro* macro = nullptr;
    int64_t crossbar = 0, phase = 0, conversion = -1;
    int column = -1;
    uint64_t compare_prefix = 0;
    std::vector<int64_t> values{};
};

struct Values {
    int64_t rows = 0, cols = 0;
    std::vector<int64_t> keys;
    std::vector<uint32_t> lines;
    std::vector<int32_t> columns;
    std::vector<bool> seen;
};

std::vector<int64_t> quantiles(1 << QUANTILE_BITS);
std::unordered_map<int64_t, Macro> macros;
std::map<int, Tile> tiles;
Values phases;
int64_t input_bits = 1, input_groups = 1, image = 0, samples = 0, comparisons = 0;
int64_t seen_before = 0, expected_before = 0;
std::FILE* records = nullptr;

uint64_t draw(uint64_t h, int64_t coordinate) {
    uint64_t z = h + GAMMA * (static_cast<uint64_t>(coordinate) + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

int64_t gaussian(uint64_t h, int64_t scale) {
    const int64_t size = quantiles[h >> (63 - QUANTILE_BITS) & ((1 << QUANTILE_BITS) - 1)];
    return ((h >> 63 ? -size : size) * scale + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS;
}

uint64_t phase_prefix(const Tile& t, int kind) {
    uint64_t h = t.macro->seed;
    for (int64_t c : {int64_t{kind}, t.macro->tile, image, t.phase}) h = draw(h, c);
    return h;
}

void log(const Tile& t, int kind, int64_t column, int64_t conversion, int64_t code, int64_t value) {
    const int64_t record[] = {kind, t.macro->seed, t.macro->tile, image, t.phase, column, conversion, code, value};
    if (records) std::fwrite(record, sizeof record, 1, records);
}

void fault(int tile, int64_t cycle, const std::string& kind, const std::string& text = "") {
    const Tile& t = tiles.at(tile);
    note(kind, "cycle " + std::to_string(cycle) + ", tile " + std::to_string(tile) + ", crossbar " + std::to_string(t.crossbar) +
                   ", phase " + std::to_string(t.phase) + (text.empty() ? "" : ": ") + text);
}

uint64_t field(const svBitVecVal* words, int index, int width) {
    const int at = index * width, shift = at % WORD;
    uint64_t value = words[at / WORD] >> shift;
    if (shift + width > WORD) value |= uint64_t{words[at / WORD + 1]} << (WORD - shift);
    return value & ((uint64_t{1} << width) - 1);
}

void set(svBitVecVal* words, int at, bool one) { words[at / WORD] |= uint32_t{one} << (at % WORD); }

int64_t seen() { return std::count(phases.seen.begin(), phases.seen.end(), true); }

int64_t find(int64_t crossbar, int64_t phase) {
    const int64_t key = crossbar << PHASE_BITS | phase;
    const auto at = std::lower_bound(phases.keys.begin(), phases.keys.end(), key);
    return at == phases.keys.end() || *at != key ? -1 : at - phases.keys.begin();
}

void load_columns(Tile& t, int tile, int64_t cycle, const svBitVecVal* lines) {
    const int words = (t.rows + WORD - 1) / WORD;
    const int64_t at = find(t.crossbar, t.phase);
    if (at < 0 || phases.cols != t.cols || phases.rows != t.rows)
        return fault(tile, cycle, "unknown phase", "word lines " + hex(lines, words));
    const uint32_t* wanted = &phases.lines[at * words];
    if (std::memcmp(wanted, lines, words * sizeof(uint32_t)))
        fault(tile, cycle, "wrong word lines", "expected " + hex(wanted, words) + ", got " + hex(lines, words));
    phases.seen[at] = true;
    std::copy_n(&phases.columns[at * t.cols], t.cols, t.values.begin());
}

bool reaches(const Tile& t, int64_t column, int64_t code, int64_t moved) {
    const Macro& m = *t.macro;
    int64_t value = t.values[column];
    if (m.compare_scale) {
        uint64_t h = t.compare_prefix;
        for (int64_t c : {column, t.conversion, code}) h = draw(h, c);
        const int64_t noise = gaussian(h, m.compare_scale);
        value += noise;
        log(t, COMPARE, column, t.conversion, code, noise);
    }
    ++comparisons;
    return value >= m.thresholds[(column / t.mux << m.bits) + code] + moved;
}

}  // namespace

int64_t id_of(int tile, int crossbar) { return int64_t{crossbar} * static_cast<int64_t>(tiles.size()) + tile; }

extern "C" {

void imc_open(int tile, int rows, int cols, int mux, int adcs, int adc_bits, int flash_bits, int trim_bits) {
    Tile& t = tiles[tile] = Tile{rows, cols, mux, adcs, adc_bits, flash_bits, trim_bits};
    t.values.resize(cols);
}

void imc_broken(int tile, int64_t cycle, const char* rule) { fault(tile, cycle, rule); }

void imc_sample(int tile, int64_t cycle, int crossbar, int key, int phase_bit, int phase_group, svBit ref_on, int ref_level,
                const svBitVecVal* lines) {
    Tile& t = tiles.at(tile);
    t.crossbar = id_of(tile, ref_on ? 0 : crossbar);
    t.phase = ref_on ? key : (key * input_bits + phase_bit) * input_groups + phase_group;
    t.column = -1;
    ++samples;
    std::fill(t.values.begin(), t.values.end(), 0);
    const auto found = macros.find(t.crossbar);
    t.macro = found == macros.end() ? nullptr : &found->second;
    if (!t.macro || t.macro->adcs != t.adcs) {
        t.macro = nullptr;
        return fault(tile, cycle, "unknown crossbar");
    }
    if (!ref_on && (phase_bit >= input_bits || phase_group >= input_groups))
        fault(tile, cycle, "phase outside the context",
              "bit " + std::to_string(phase_bit) + ", group " + std::to_string(phase_group));
    if (!ref_on && unwritten(t.crossbar)) fault(tile, cycle, "a vector ahead of a job");
    if (ref_on)
        std::fill(t.values.begin(), t.values.end(), ref_level * t.macro->step >> 1);
    else
        load_columns(t, tile, cycle, lines);
    t.compare_prefix = phase_prefix(t, COMPARE);
    const uint64_t prefix = phase_prefix(t, READ);
    for (int column = 0; column < t.cols; ++column) {
        if (t.macro->read_scale) {
            const int64_t noise = gaussian(draw(prefix, column), t.macro->read_scale);
            t.values[column] += noise;
            log(t, READ, column, 0, 0, noise);
        }
        log(t, SAMPLE, column, t.crossbar, 0, t.values[column]);
    }
}

svBit imc_compare(int tile, int64_t cycle, int column, const svBitVecVal* trims, const svBitVecVal* codes, svBitVecVal* answers,
                  svBitVecVal* thermometers) {
    Tile& t = tiles.at(tile);
    const int therm = t.flash_bits ? (1 << t.flash_bits) - 1 : 1;
    std::fill_n(answers, (t.adcs + WORD - 1) / WORD, 0);
    std::fill_n(thermometers, (t.adcs * therm + WORD - 1) / WORD, 0);
    if (!t.macro) return 0;
    const Macro& m = *t.macro;
    if (column != t.column) {
        t.column = column;
        t.conversion = -1;
    }
    t.conversion += m.flash || field(codes, 0, t.adc_bits) == uint64_t{1} << (m.bits - 1);
    if (t.conversion < 0) fault(tile, cycle, "a conversion begins with another code than half of all");
    for (int g = 0; g < t.adcs; ++g) {
        const int64_t trim = field(trims, g, t.trim_bits);
        const int64_t moved = (trim - (1 << (t.trim_bits - 1))) * m.trim_scale;
        const int64_t at = g * t.mux + column;
        if (m.flash) {
            for (int64_t code = 1; code < 1 << m.bits && code <= therm; ++code)
                set(thermometers, g * therm + static_cast<int>(code) - 1, reaches(t, at, code, moved));
            continue;
        }
        const int64_t code = field(codes, g, t.adc_bits);
        if (code >> m.bits)
            fault(tile, cycle, "a trial code beyond the converter's", std::to_string(code));
        else
            set(answers, g, reaches(t, at, code, moved));
    }
    return m.flash != 0;
}

void imc_context(int bits, int groups) {
    input_bits = bits;
    input_groups = groups;
}

void imc_image(int64_t number) { image = number; }

const char* imc_macros(const char* path) {
    Reader reader(path);
    const auto head = reader.take<int64_t>(2);
    if (head[0] != MACROS_MAGIC) reader.wrong("no table of macros");
    const auto table = reader.take<int64_t>(quantiles.size());
    std::map<int64_t, Macro> loaded;
    for (int64_t n = 0; reader.ok() && n < head[1]; ++n) {
        const auto f = reader.take<int64_t>(MACRO_FIELDS);
        if (f[7] < 1 || f[7] > 10 || f[9] < 1) reader.wrong("no table of macros");
        if (!reader.ok()) break;
        loaded[f[0]] = Macro{f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], reader.take<int64_t>(f[9] << f[7])};
    }
    reader.end();
    if (!reader.ok()) return reader.result();
    quantiles = table;
    for (auto& [id, macro] : loaded) macros[id] = std::move(macro);
    return nullptr;
}

const char* imc_values(const char* path) {
    Reader reader(path);
    const auto head = reader.take<int64_t>(4);
    if (head[0] != VALUES_MAGIC) reader.wrong("no column values");
    Values loaded;
    const int64_t count = reader.ok() ? head[1] : 0;
    loaded.rows = head[2];
    loaded.cols = head[3];
    loaded.keys = reader.take<int64_t>(count);
    loaded.lines = reader.take<uint32_t>(count * ((loaded.rows + WORD - 1) / WORD));
    loaded.columns = reader.take<int32_t>(count * loaded.cols);
    loaded.seen.resize(count);
    reader.end();
    if (reader.ok() && std::adjacent_find(loaded.keys.begin(), loaded.keys.end(), std::greater_equal<>()) != loaded.keys.end())
        reader.wrong("phases out of order");
    if (!reader.ok()) return reader.result();
    seen_before += seen();
    expected_before += static_cast<int64_t>(phases.keys.size());
    phases = std::move(loaded);
    return nullptr;
}

const char* imc_log(const char* path) {
    if (records) std::fclose(records);
    records = *path ? std::fopen(path, "wb") : nullptr;
    answer = std::string(path) + ": cannot be written";
    return *path && !records ? answer.c_str() : nullptr;
}

const char* imc_report() {
    const int64_t expected = expected_before + static_cast<int64_t>(phases.keys.size());
    answer = "{\"samples\": " + std::to_string(samples) + ", \"comparisons\": " + std::to_string(comparisons) +
             ", \"phases\": " + std::to_string(seen_before + seen()) + ", \"expected\": " + std::to_string(expected) + ", \"actions\": " + std::to_string(actions_seen()) +
             ", \"actions_expected\": " + std::to_string(actions_expected()) + ", \"errors\": {";
    const char* between = "";
    for (const auto& [kind, error] : errors) {
        answer += between + ("\"" + kind + "\": [") + std::to_string(error.count) + ", \"" + error.first + "\"]";
        between = ", ";
    }
    return (answer += "}}").c_str();
}

void imc_clear() {
    samples = comparisons = seen_before = expected_before = 0;
    phases.seen.assign(phases.keys.size(), false);
    errors.clear();
    clear_actions();
}

int64_t imc_draw(int64_t seed, int kind, const int64_t* coordinates, int count) {
    uint64_t h = draw(static_cast<uint64_t>(seed), kind);
    for (int i = 0; i < count; ++i) h = draw(h, coordinates[i]);
    return static_cast<int64_t>(h);
}

int64_t imc_gaussian(int64_t h, int64_t scale) { return gaussian(static_cast<uint64_t>(h), scale); }
}
