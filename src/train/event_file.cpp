#include "train/event_file.h"

#include <events.pb.h>  // of events.proto
#include <unistd.h>

#include <boost/crc.hpp>
#include <chrono>
#include <cstring>

#include "core/log.h"

namespace xlstm {

namespace {

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// A CRC of data that holds a CRC is a poor one, so the format stores it turned and shifted.
std::uint32_t masked_crc(const void* data, std::size_t bytes) {
  const std::uint32_t crc = crc32c(data, bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
void append(std::string& to, T value) {  // little-endian, as every machine is that we build for
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Readers go through the files by name, so the time comes first; two of one process and second have a number.
std::string file_name() {
  static int count = 0;
  char host[256] = "host";
  gethostname(host, sizeof host - 1);
  return fmt::format("events.out.tfevents.{:010.0f}.{}.{}.{}", now(), host, getpid(), count++);
}

}  // namespace

std::uint32_t crc32c(const void* data, std::size_t bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data, bytes);
  return crc.checksum();
}

EventFile::EventFile(const fs::path& folder) : path_(folder / file_name()) {
  try {
    make_directory(folder);
    file_ = std::make_unique<OutputFile>(path_);
  } catch (const UserError& e) {
    log_warning("{}; there will be no events for TensorBoard", e.what());
    return;
  }
  events::Event version;
  version.set_wall_time(now());
  version.set_file_version("brain.Event:2");
  write_record(version.SerializeAsString());
}

EventFile::~EventFile() = default;

void EventFile::add(i64 step, std::span<const Scalar> scalars) {
  events::Event event;
  event.set_wall_time(now());
  event.set_step(step);
  for (const Scalar& s : scalars) {
    auto* value = event.mutable_summary()->add_value();
    value->set_tag(s.tag);
    value->set_simple_value(static_cast<float>(s.value));
  }
  write_record(event.SerializeAsString());
}

// A file that ends in the midst of a record, or goes on behind one, is damaged for its readers: after a failure nothing
// more is written to it.
void EventFile::write_record(const std::string& message) {
  if (!file_) return;
  std::string record;
  append(record, static_cast<std::uint64_t>(message.size()));
  append(record, masked_crc(record.data(), record.size()));
  record += message;
  append(record, masked_crc(message.data(), message.size()));
  try {
    file_->write(record);
  } catch (const UserError& e) {
    log_error("{}; no more events for TensorBoard from this start", e.what());
    file_.reset();
  }
}

}  // namespace xlstm
