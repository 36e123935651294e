// Runs llama.cpp's library for scripts/bench-engines: one command a line on stdin, one answer a line on stdout.
//
//   llama-driver MODEL.gguf THREADS
//     prefill C          runs the first C ids in one batch to the first token chosen
//     decode C N         decodes N tokens behind the same ids, in a cache of their own that is kept between commands
//     greedy C N         the N tokens that follow the first C ids
//     logits C FILE      every position's logits from the C-th id on, over all ids, as f32 into FILE
//
// The ids come before the commands, in a line of their own. Tokens are chosen by the highest logit. The first two answer
// nanoseconds by the clock, and of the processor, summed over the threads.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

using Ids = std::vector<llama_token>;

[[noreturn]] static void fail(const std::string & what) {
    std::cerr << "llama-driver: " << what << "\n";
    std::exit(1);
}

struct Driver {
    llama_model * model;
    int threads;
    int vocabulary;
    Ids ids;
    /// One context of each length that decode was asked for.
    std::map<size_t, llama_context *> kept;

    llama_context * context(size_t length, size_t batch) const {
        auto params = llama_context_default_params();
        params.n_ctx = static_cast<uint32_t>(length);
        params.n_batch = static_cast<uint32_t>(batch);
        params.n_threads = params.n_threads_batch = threads;
        params.no_perf = true;
        llama_context * made = llama_init_from_model(model, params);
        if (!made) fail("no context");
        return made;
    }

    /// Runs `count` ids; logits of the last position are wanted.
    void run(llama_context * in, const llama_token * first, size_t count) const {
        Ids copy(first, first + count);
        if (llama_decode(in, llama_batch_get_one(copy.data(), static_cast<int32_t>(count)))) fail("decode");
    }

    llama_token best(llama_context * in) const {
        const float * logits = llama_get_logits_ith(in, -1);
        int highest = 0;
        for (int i = 1; i < vocabulary; i++) {
            if (logits[i] > logits[highest]) highest = i;
        }
        return highest;
    }

    /// Tokens behind what the context holds, of which `token` was chosen but not run yet.
    Ids more(llama_context * in, llama_token token, size_t count) const {
        Ids out;
        for (size_t i = 0; i < count; i++) {
            run(in, &token, 1);
            out.push_back(token = best(in));
        }
        return out;
    }
};

struct Times {
    int64_t clock_ns = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
    int64_t cpu_ns = static_cast<int64_t>(std::clock()) * (1000000000 / CLOCKS_PER_SEC);

    void answer() const {
        Times now;
        std::cout << now.clock_ns - clock_ns << ' ' << now.cpu_ns - cpu_ns << std::endl;
    }
};

static void prefill(Driver & with, size_t count) {
    llama_context *& in = with.kept[0];
    if (!in) in = with.context(count + 1, count);
    llama_memory_clear(llama_get_memory(in), false);
    Times start;
    with.run(in, with.ids.data(), count);
    with.best(in);
    start.answer();
}

static void decode(Driver & with, size_t at, size_t count) {
    llama_context *& in = with.kept[at];
    if (!in) {
        in = with.context(at + count + 1, 512);
        for (size_t done = 0; done + 1 < at; done += 512) {
            with.run(in, &with.ids[done], std::min<size_t>(512, at - 1 - done));
        }
    }
    // The last id runs again, so that its logits are there.
    if (!llama_memory_seq_rm(llama_get_memory(in), 0, static_cast<llama_pos>(at - 1), -1)) fail("cannot cut the cache");
    with.run(in, &with.ids[at - 1], 1);
    llama_token token = with.best(in);
    Times start;
    with.more(in, token, count);
    start.answer();
}

static void greedy(Driver & with, size_t at, size_t count) {
    llama_context * in = with.context(at + count + 1, at);
    with.run(in, with.ids.data(), at);
    llama_token token = with.best(in);
    std::cout << token;
    for (llama_token next : with.more(in, token, count - 1)) std::cout << ' ' << next;
    std::cout << std::endl;
    llama_free(in);
}

static void logits(Driver & with, size_t at, const std::string & path) {
    llama_context * in = with.context(with.ids.size() + 1, with.ids.size());
    FILE * file = std::fopen(path.c_str(), "wb");
    if (!file) fail("cannot write " + path);
    with.run(in, with.ids.data(), at);
    for (size_t next = at;; next++) {
        std::fwrite(llama_get_logits_ith(in, -1), sizeof(float), static_cast<size_t>(with.vocabulary), file);
        if (next == with.ids.size()) break;
        with.run(in, &with.ids[next], 1);
    }
    if (std::fclose(file)) fail("cannot write " + path);
    std::cout << with.ids.size() - at + 1 << std::endl;
    llama_free(in);
}

int main(int argc, char ** argv) {
    if (argc != 3) fail("usage: llama-driver MODEL.gguf THREADS");
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_WARN) std::cerr << text;
    }, nullptr);
    llama_backend_init();
    auto params = llama_model_default_params();
    Driver with{llama_model_load_from_file(argv[1], params), std::atoi(argv[2]), 0, {}, {}};
    if (!with.model) fail(std::string("cannot load ") + argv[1]);
    with.vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(with.model));
    std::cout << llama_print_system_info() << std::endl;

    std::string line, word;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        size_t at = 0, count = 0;
        words >> word;
        if (word == "ids") {
            with.ids.clear();
            for (llama_token id; words >> id;) with.ids.push_back(id);
            continue;
        }
        words >> at;
        if (at < 1 || at > with.ids.size()) fail("not so many ids: " + line);
        if (word == "logits") {
            words >> word;
            logits(with, at, word);
            continue;
        }
        words >> count;
        if (word == "prefill") prefill(with, at);
        else if (word == "decode" && count) decode(with, at, count);
        else if (word == "greedy" && count) greedy(with, at, count);
        else fail("unknown command: " + line);
    }
}
