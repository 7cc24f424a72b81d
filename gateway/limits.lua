-- Decides a batch of requests, each against all of its limits, in order. A request that
-- one limit refuses takes nothing from any of them.
--
-- KEYS     one per check: the checks of the first request, then of the second, ...
-- ARGV[1]  what the callers' clock is ahead of ours, ms
-- ARGV[2]  "1": count, but refuse nothing
-- ARGV[3]  MessagePack: per request a list of checks {per minute, per hour, per day},
--          0 where there is no such limit
-- Answers MessagePack: per check {window, left, until ms, wait ms}: the window (1 minute,
-- 2 hour, 3 day) with the least left, how many more requests it takes now, when its
-- oldest request leaves it, and, where the limit refuses, when it would not any more.
--
-- State of a key, one string: two counts, the records of the hour and of the day (number
-- and count of a sub-window, 4 bytes each), then the times of the last minute's requests
-- (8 bytes each), of which no more are kept than the limit needs. Packed, because a list
-- of a hundred times costs one read and one write this way.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local lifted = ARGV[2] == '1'
local MINUTE_MS = 60000
local WIDTH_MS = { false, 60000, 1440000 } -- of the 60 sub-windows of an hour, of a day
local LIFE_MS = { 60000, 3600000, 86400000 }

local function time_at(log, i)
  return (struct.unpack('>d', log, 8 * i - 7))
end

-- The times that are still in the minute, oldest first.
local function minute_of(log)
  local low, high = 1, #log / 8 + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if time_at(log, middle) <= now - MINUTE_MS then low = middle + 1 else high = middle end
  end
  return string.sub(log, 8 * low - 7)
end

local function judge_minute(log, limit)
  local count = #log / 8
  local lasts = count > 0 and time_at(log, 1) + MINUTE_MS - now or MINUTE_MS
  local wait = count >= limit and time_at(log, count - limit + 1) + MINUTE_MS - now or 0
  return math.max(limit - count, 0), lasts, wait
end

local function records_of(text, width)
  local records, sum = {}, 0
  local oldest = math.floor(now / width) - 59
  for at = 1, #text, 8 do
    local slot, count = struct.unpack('>I4I4', text, at)
    if slot >= oldest then
      records[#records + 1] = { slot, count }
      sum = sum + count
    end
  end
  return records, sum
end

local function judge_records(records, sum, width, limit)
  local lasts = records[1] and (records[1][1] + 60) * width - now or 60 * width
  local wait, left = 0, sum
  for _, record in ipairs(records) do
    if left < limit then break end
    left = left - record[2]
    wait = (record[1] + 60) * width - now
  end
  return math.max(limit - sum, 0), lasts, wait
end

local function packed(records)
  local parts = {}
  for i, record in ipairs(records) do parts[i] = struct.pack('>I4I4', record[1], record[2]) end
  return table.concat(parts)
end

local function load(key, limits)
  local state = redis.call('GET', key) or struct.pack('>I2I2', 0, 0)
  local hours, days = struct.unpack('>I2I2', state)
  local day_at, log_at = 5 + 8 * hours, 5 + 8 * (hours + days)
  local check = { key = key, limits = limits, records = {} }
  check.log = minute_of(string.sub(state, log_at))
  local left, lasts, wait = judge_minute(check.log, limits[1])
  check.answer = { 1, left, lasts, wait }
  local texts = { false, string.sub(state, 5, day_at - 1), string.sub(state, day_at, log_at - 1) }
  for window = 2, 3 do
    if limits[window] > 0 then
      local sum
      check.records[window], sum = records_of(texts[window], WIDTH_MS[window])
      left, lasts, wait = judge_records(check.records[window], sum, WIDTH_MS[window], limits[window])
      local answer = check.answer
      if left < answer[2] then answer[1], answer[2], answer[3] = window, left, lasts end
      if wait > answer[4] then answer[1], answer[4] = window, wait end
    end
  end
  return check
end

local function take(check)
  local life = LIFE_MS[1]
  for window = 2, 3 do
    local records = check.records[window]
    if records then
      local slot = math.floor(now / WIDTH_MS[window])
      local last = records[#records]
      if last and last[1] == slot then
        last[2] = last[2] + 1
      else
        records[#records + 1] = { slot, 1 }
      end
      life = LIFE_MS[window]
    end
  end
  local hours, days = check.records[2] or {}, check.records[3] or {}
  local log = string.sub(check.log, math.max(#check.log - 8 * (check.limits[1] - 1) + 1, 1))
  local state = struct.pack('>I2I2', #hours, #days)
    .. packed(hours) .. packed(days) .. log .. struct.pack('>d', now)
  redis.call('SET', check.key, state, 'PX', life)
  check.answer[2] = math.max(check.answer[2] - 1, 0)
end

local answers, at = {}, 0
for _, request in ipairs(cmsgpack.unpack(ARGV[3])) do
  local checks, refused = {}, false
  for i, limits in ipairs(request) do
    at = at + 1
    checks[i] = load(KEYS[at], limits)
    if lifted then checks[i].answer[4] = 0 end
    refused = refused or checks[i].answer[4] > 0
  end
  for _, check in ipairs(checks) do
    if not refused then take(check) end
    answers[#answers + 1] = check.answer
  end
end
return cmsgpack.pack(answers)
