// Plays a script on a simulated core of in-memory-computing tiles: registers, streams, interrupt, macros.
//
// usage: program SCRIPT WORDS FOLDER [TRACE]
// SCRIPT has a command a line (verif/imc/system.py, class Script), WORDS the words of its packets. Packets wait in a queue and
// are offered while other commands run; what comes is kept from the first cycle on. FOLDER takes result.json, words.bin (uint32)
// and ends.bin (int64 pairs: words so far, cycle, for each end of a packet). TRACE is a VCD file, in a build that traces.

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "Vtop.h"
#include "macro_shell.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr int IDLE = 20, PATIENCE = 1000, HALF_PERIOD = 5000, RESET_CYCLES = 8;

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Bench {
  public:
    Bench(VerilatedContext& context, std::vector<uint32_t> words, const char* trace)
        : context_(context), top_(std::make_unique<Vtop>(&context)), words_(std::move(words)) {
#if VM_TRACE
        if (trace) {
            context.traceEverOn(true);
            vcd_ = std::make_unique<VerilatedVcdC>();
            top_->trace(vcd_.get(), 99);
            vcd_->open(trace);
        }
#else
        if (trace) throw Failure("trace: this build has none");
#endif
        top_->aresetn = 0;
        for (int i = 0; i < RESET_CYCLES; ++i) step();
        top_->aresetn = 1;
        step();
    }

    ~Bench() {
        top_->final();
#if VM_TRACE
        if (vcd_) vcd_->close();
#endif
    }

    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    void play(const std::string& name, std::istringstream& line) {
        if (name == "land") {
            left_ = false;
        } else if (left_) {
            if (name == "read") reads.push_back(0);
            if (name == "poll" || name == "sent" || name == "wait" || name == "receive") waits.push_back(0);
        } else if (name == "leave") {
            const auto [address, mask, value] = numbers<3>(line);
            left_ = (read(address) & mask) == value;
        } else if (name == "write") {
            const auto [address, value] = numbers<2>(line);
            write(address, value);
        } else if (name == "read") {
            reads.push_back(read(numbers<1>(line)[0]));
        } else if (name == "poll") {
            const auto [address, mask, value, cycles] = numbers<4>(line);
            const int64_t begin = cycle, end = cycle + cycles;
            while ((read(address) & mask) != value) {
                if (cycle >= end) late(name, cycles, "register " + std::to_string(address));
                step();
            }
            waits.push_back(cycle - begin);
        } else if (name == "push") {
            const auto [offset, count, last] = numbers<3>(line);
            if (!count || offset + count > words_.size()) throw Failure("push: words beyond the file");
            queue_.push_back({offset, offset + count, last != 0});
        } else if (name == "sent") {
            wait(name, numbers<1>(line)[0], [&] { return queue_.empty(); });
        } else if (name == "wait") {
            wait(name, numbers<1>(line)[0], [&] { return irq_; });
        } else if (name == "receive") {
            const auto [packets, cycles] = numbers<2>(line);
            wanted_ += packets;
            wait(name, cycles, [&] { return ends.size() >= 2 * wanted_; });
        } else if (name == "idle") {
            for (uint64_t n = numbers<1>(line)[0]; n--;) step();
        } else if (name == "stalls") {
            const auto [in, out, seed] = numbers<3>(line);
            stall_in_ = in;
            stall_out_ = out;
            random_.seed(seed);
        } else if (name == "context") {
            const auto [bits, groups] = numbers<2>(line);
            imc_context(static_cast<int>(bits), static_cast<int>(groups));
        } else if (name == "image") {
            imc_image(static_cast<int64_t>(numbers<1>(line)[0]));
        } else if (name == "macros") {
            load(imc_macros(rest(line).c_str()));
        } else if (name == "values") {
            load(imc_values(rest(line).c_str()));
        } else if (name == "actions") {
            load(imc_actions(rest(line).c_str()));
        } else if (name == "log") {
            load(imc_log(rest(line).c_str()));
        } else if (name == "carry") {
            carry(line);
        } else if (name == "progress") {
            std::printf("%s\n", rest(line).c_str());
            std::fflush(stdout);
        } else {
            throw Failure(name + ": no such command");
        }
    }

    std::vector<uint32_t> reads, words;
    std::vector<int64_t> waits, ends;
    std::string violation;
    int64_t cycle = 0, violations = 0;

  private:
    struct Packet {
        uint64_t next, end;
        bool last;
    };

    struct Control {
        bool awready, wready, bvalid, arready, rvalid;
        uint32_t rdata, bresp, rresp;
    };

    template <size_t N>
    static std::array<uint64_t, N> numbers(std::istringstream& line) {
        std::array<uint64_t, N> values{};
        for (auto& value : values)
            if (!(line >> value)) throw Failure("a number is missing");
        return values;
    }

    static std::string rest(std::istringstream& line) {
        std::string text;
        std::getline(line >> std::ws, text);
        return text;
    }

    static void load(const char* message) {
        if (message) throw Failure(message);
    }

    void eval(int clock) {
        top_->aclk = clock;
        top_->eval();
#if VM_TRACE
        if (vcd_) vcd_->dump(context_.time());
#endif
        context_.timeInc(HALF_PERIOD);
    }

    bool stalls(uint64_t percent) { return percent && random_() % 100 < percent; }

    void broken(const char* rule) {
        if (!violations++) violation = "cycle " + std::to_string(cycle) + ": " + rule;
    }

    void step() {
        if (!offered_ && !queue_.empty() && top_->aresetn && !stalls(stall_in_)) {
            offered_ = true;
            const Packet& packet = queue_.front();
            top_->s_axis_tdata = words_[packet.next];
            top_->s_axis_tlast = packet.last && packet.next + 1 == packet.end;
        }
        top_->s_axis_tvalid = offered_;
        top_->m_axis_tready = !stalls(stall_out_);
        eval(0);
        seen_ = {top_->s_axi_ctrl_awready != 0, top_->s_axi_ctrl_wready != 0, top_->s_axi_ctrl_bvalid != 0,
                 top_->s_axi_ctrl_arready != 0, top_->s_axi_ctrl_rvalid != 0, top_->s_axi_ctrl_rdata,
                 top_->s_axi_ctrl_bresp,        top_->s_axi_ctrl_rresp};
        irq_ = top_->irq;
        if (offered_ && top_->s_axis_tready) {
            offered_ = false;
            ++sent_;
            if (++queue_.front().next == queue_.front().end) queue_.pop_front();
        }
        take();
        eval(1);
        ++cycle;
    }

    void take() {
        const bool valid = top_->aresetn && top_->m_axis_tvalid, last = top_->m_axis_tlast;
        const uint32_t word = top_->m_axis_tdata;
        if (waiting_ && !valid) broken("m_axis: tvalid fell before tready");
        if (waiting_ && valid && (word != held_ || last != held_last_)) broken("m_axis: a word changed before tready");
        if (valid && top_->m_axis_tready) {
            words.push_back(word);
            if (last) ends.insert(ends.end(), {static_cast<int64_t>(words.size()), cycle});
        }
        waiting_ = valid && !top_->m_axis_tready;
        held_ = word;
        held_last_ = last;
    }

    // Give registers and streams to `run` of a shared library, which a C driver is in, with the words behind it as arguments.
    void carry(std::istringstream& line) {
        using Run = int (*)(void (*)(void*, uint32_t, uint32_t), uint32_t (*)(void*, uint32_t),
                            int (*)(void*, const uint32_t*, uint32_t), uint32_t (*)(void*, uint32_t*, uint32_t), int (*)(void*),
                            void*, int, char**);
        std::string path;
        if (!(line >> path >> carried_bits_ >> carried_groups_)) throw Failure("carry: a word is missing");
        std::vector<std::string> texts{std::istream_iterator<std::string>(line), {}};
        std::vector<char*> arguments;
        for (auto& text : texts) arguments.push_back(text.data());
        void* library = dlopen(path.c_str(), RTLD_NOW);
        void* run = library ? dlsym(library, "run") : nullptr;
        if (!run) throw Failure(std::string("carry: ") + dlerror());
        taken_ = ends.size();
        reads.push_back(static_cast<uint32_t>(reinterpret_cast<Run>(run)(
            [](void* bench, uint32_t offset, uint32_t value) { static_cast<Bench*>(bench)->carried_write(offset, value); },
            [](void* bench, uint32_t offset) { return static_cast<Bench*>(bench)->carried_read(offset); },
            [](void* bench, const uint32_t* first, uint32_t count) {
                return static_cast<Bench*>(bench)->carried_send(first, count);
            },
            [](void* bench, uint32_t* first, uint32_t most) {
                return static_cast<Bench*>(bench)->carried_receive(first, most);
            },
            [](void* bench) -> int { return static_cast<Bench*>(bench)->irq_; }, this, static_cast<int>(arguments.size()),
            arguments.data())));
    }

    void carried_write(uint64_t offset, uint32_t value) {
        if (offset == carried_bits_) imc_context(static_cast<int>(value), static_cast<int>(carried_groups_));
        write(offset, value);
    }

    uint32_t carried_read(uint64_t offset) {
        const uint32_t value = read(offset);
        for (int i = 0; i < IDLE; ++i) step();
        return value;
    }

    int carried_send(const uint32_t* first, uint32_t count) {
        const uint64_t offset = words_.size();
        words_.insert(words_.end(), first, first + count);
        queue_.push_back({offset, offset + count, true});
        for (int64_t begin = cycle; !queue_.empty(); step())
            if (cycle - begin > PATIENCE * static_cast<int64_t>(count)) return 1;
        return 0;
    }

    uint32_t carried_receive(uint32_t* first, uint32_t most) {
        for (int i = 0; i < IDLE; ++i) step();
        if (taken_ == ends.size()) return 0;
        const int64_t begin = taken_ ? ends[taken_ - 2] : 0, count = ends[taken_] - begin;
        std::copy_n(words.begin() + begin, std::min<int64_t>(count, most), first);
        taken_ += 2;
        return static_cast<uint32_t>(count);
    }

    [[noreturn]] void late(const std::string& what, uint64_t cycles, const std::string& why) {
        throw Failure(what + ": " + why + " after " + std::to_string(cycles) + " cycles; " + std::to_string(sent_) +
                      " words sent, " + std::to_string(queue_.size()) + " packets wait, " + std::to_string(words.size()) +
                      " words and " + std::to_string(ends.size() / 2) + " packets received");
    }

    template <typename Condition>
    void wait(const std::string& what, uint64_t cycles, Condition over) {
        const int64_t begin = cycle;
        const char* why = what == "wait" ? "no irq" : what == "sent" ? "packets are not taken" : "packets are missing";
        while (!over()) {
            if (static_cast<uint64_t>(cycle - begin) >= cycles) late(what, cycles, why);
            step();
        }
        waits.push_back(cycle - begin);
    }

    void write(uint64_t address, uint64_t value) {
        top_->s_axi_ctrl_awaddr = address;
        top_->s_axi_ctrl_wdata = static_cast<uint32_t>(value);
        top_->s_axi_ctrl_wstrb = 15;
        top_->s_axi_ctrl_awvalid = top_->s_axi_ctrl_wvalid = top_->s_axi_ctrl_bready = 1;
        for (int i = 0; i < PATIENCE; ++i) {
            step();
            if (seen_.awready) top_->s_axi_ctrl_awvalid = 0;
            if (seen_.wready) top_->s_axi_ctrl_wvalid = 0;
            if (!seen_.bvalid) continue;
            top_->s_axi_ctrl_bready = 0;
            if (seen_.bresp) throw Failure("register " + std::to_string(address) + ": the write is refused");
            step();
            return;
        }
        throw Failure("register " + std::to_string(address) + ": no write response");
    }

    uint32_t read(uint64_t address) {
        top_->s_axi_ctrl_araddr = address;
        top_->s_axi_ctrl_arvalid = top_->s_axi_ctrl_rready = 1;
        for (int i = 0; i < PATIENCE; ++i) {
            step();
            if (seen_.arready) top_->s_axi_ctrl_arvalid = 0;
            if (!seen_.rvalid) continue;
            top_->s_axi_ctrl_rready = 0;
            if (seen_.rresp) throw Failure("register " + std::to_string(address) + ": the read is refused");
            return seen_.rdata;
        }
        throw Failure("register " + std::to_string(address) + ": no read response");
    }

    VerilatedContext& context_;
    std::unique_ptr<Vtop> top_;
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> vcd_;
#endif
    std::vector<uint32_t> words_;
    std::deque<Packet> queue_;
    Control seen_{};
    bool offered_ = false, irq_ = false, waiting_ = false, held_last_ = false, left_ = false;
    uint32_t held_ = 0;
    uint64_t carried_bits_ = 0, carried_groups_ = 0, taken_ = 0;
    uint64_t sent_ = 0, wanted_ = 0, stall_in_ = 0, stall_out_ = 0;
    std::mt19937_64 random_{1};
};

std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') result += '\\';
        result += c;
    }
    return result + "\"";
}

template <typename T>
std::string list(const std::vector<T>& items) {
    std::string text = "[";
    for (const T& item : items) text += (text.size() > 1 ? ", " : "") + std::to_string(item);
    return text + "]";
}

template <typename T>
void dump(const std::string& path, const std::vector<T>& items) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T));
}

std::vector<uint32_t> load_words(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<uint32_t> words(bytes.size() / sizeof(uint32_t));
    std::copy_n(bytes.data(), words.size() * sizeof(uint32_t), reinterpret_cast<char*>(words.data()));
    return words;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: %s SCRIPT WORDS FOLDER [TRACE]\n", argv[0]);
        return 2;
    }
    VerilatedContext context;
    std::string failure, line;
    const std::string folder = argv[3];
    std::ifstream script(argv[1]);
    Bench bench(context, load_words(argv[2]), argc > 4 ? argv[4] : nullptr);
    const auto begin = std::chrono::steady_clock::now();
    for (int number = 1; failure.empty() && std::getline(script, line); ++number) {
        std::istringstream words(line);
        std::string name;
        words >> name;
        try {
            bench.play(name, words);
        } catch (const Failure& error) {
            failure = "line " + std::to_string(number) + ": " + error.what();
        }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    dump(folder + "/words.bin", bench.words);
    dump(folder + "/ends.bin", bench.ends);
    imc_log("");
    std::ofstream(folder + "/result.json")
        << "{\"reads\": " << list(bench.reads) << ", \"waits\": " << list(bench.waits) << ", \"cycles\": " << bench.cycle
        << ", \"seconds\": " << seconds.count() << ", \"failure\": " << (failure.empty() ? "null" : quoted(failure))
        << ", \"violations\": " << bench.violations << ", \"violation\": " << quoted(bench.violation)
        << ", \"macro\": " << imc_report() << "}\n";
    return 0;
}
