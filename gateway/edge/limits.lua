-- Decides a batch of requests, each against all of its limits, in order. A request that
-- one limit refuses takes nothing from any of them.
--
-- KEYS     one per check: the checks of the first request, then of the second, ...
-- ARGV[1]  what the callers' clock is ahead of ours, ms
-- ARGV[2]  "1": count, but refuse nothing
-- ARGV[3]  a byte per request: how many checks it has
-- ARGV[4]  a byte per check: which of the policies it is of, from 1
-- ARGV[5]  MessagePack: the policies, each {per minute, per hour, per day}, 0 where there
--          is no such limit
-- Returns MessagePack: per check {window, left, until ms, wait ms}: the window (1 minute,
-- 2 hour, 3 day) with the least left, how many more requests it takes now, when its
-- oldest request leaves it, and, where the limit refuses, when it would not any more.
--
-- State of a key, one string: a head, the records of the hour and of the day (number and
-- count of a sub-window, 4 bytes each), then the log, the times of the requests since
-- (8 bytes each), to which a request only appends its own. A log that is old, or twice as
-- long as the limit needs, is folded: the times that the minute does not need become records.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local disabled = ARGV[2] == '1'
local MINUTE_MS = 60000
local WIDTH_MS = { false, 60000, 1440000 } -- of the 60 sub-windows of an hour, of a day
local LIFE_MS = { 60000, 3600000, 86400000 }
-- How old a log may become: all of it is within the hour and the day.
local LOG_MS = 120000
-- When it is old or a record leaves its window; requests in the records of the hour, of the
-- day; how many records these are.
local HEAD, HEAD_BYTES = '>dI4I4I2I2', 20
local NEW = struct.pack(HEAD, now + LOG_MS, 0, 0, 0, 0)
local NOW = struct.pack('>d', now)

local function time_at(state, at)
  return (struct.unpack('>d', state, at))
end

-- Where in the log the times of this minute begin, of which no more count than the limit.
local function minute_of(state, log, limit)
  local high = (#state + 1 - log) / 8
  local low = math.max(high - limit, 0)
  -- Looked at before the middle, because a frequent caller is at the limit.
  local middle = low
  while low < high do
    if time_at(state, log + 8 * middle) <= now - MINUTE_MS then
      low = middle + 1
    elseif middle == low then
      break
    else
      high = middle
    end
    middle = math.floor((low + high) / 2)
  end
  return log + 8 * low
end

-- The records between two places, without those that left the window and with the times of
-- the log up to `minute`; and the requests in them, which were `sum`.
local function recorded(state, from, to, sum, width, log, minute)
  local oldest = math.floor(now / width) - 59
  while from < to do
    local slot, count = struct.unpack('>I4I4', state, from)
    if slot >= oldest then break end
    from, sum = from + 8, sum - count
  end
  local slot, count = oldest, 0
  if from < to then slot, count = struct.unpack('>I4I4', state, to - 8) end
  local parts = { string.sub(state, from, to - 9) }
  for at = log, minute - 8, 8 do
    local taken = math.floor(time_at(state, at) / width)
    if taken > slot then
      if count > 0 then parts[#parts + 1] = struct.pack('>I4I4', slot, count) end
      slot, count = taken, 0
    end
    if taken >= oldest then count, sum = count + 1, sum + 1 end
  end
  if count > 0 then parts[#parts + 1] = struct.pack('>I4I4', slot, count) end
  return table.concat(parts), sum
end

local function folded(state, limits)
  local _, hour_sum, day_sum, hours, days = struct.unpack(HEAD, state)
  local day_at = HEAD_BYTES + 1 + 8 * hours
  local log = day_at + 8 * days
  local minute = minute_of(state, log, limits[1])
  local stays = string.sub(state, minute)
  local until_ms = (stays == '' and now or time_at(stays, 1)) + LOG_MS
  local function kept(window, from, to, sum)
    if limits[window] == 0 then return '', 0 end
    local width, records = WIDTH_MS[window]
    records, sum = recorded(state, from, to, sum, width, log, minute)
    if records ~= '' then
      until_ms = math.min(until_ms, (struct.unpack('>I4', records) + 60) * width)
    end
    return records, sum
  end
  local hour, day
  hour, hour_sum = kept(2, HEAD_BYTES + 1, day_at, hour_sum)
  day, day_sum = kept(3, day_at, log, day_sum)
  return struct.pack(HEAD, until_ms, hour_sum, day_sum, #hour / 8, #day / 8) .. hour .. day .. stays
end

-- Puts a window of sub-windows into the answer, where it is the tightest so far.
local function tighten(answer, window, limit, state, at, records, sum, log)
  if limit == 0 then return end
  local width, total = WIDTH_MS[window], sum + (#state + 1 - log) / 8
  local left = math.max(limit - total, 0)
  if left < answer[2] then
    local oldest = records > 0 and struct.unpack('>I4', state, at)
      or math.floor((log < #state and time_at(state, log) or now) / width)
    answer[1], answer[2], answer[3] = window, left, (oldest + 60) * width - now
  end
  if total < limit then return end
  -- When as many have left as are too many, the oldest first.
  local over, slot, count = total - limit + 1
  while over > 0 and records > 0 do
    slot, count = struct.unpack('>I4I4', state, at)
    over, at, records = over - count, at + 8, records - 1
  end
  if over > 0 then slot = math.floor(time_at(state, log + 8 * (over - 1)) / width) end
  local wait = (slot + 60) * width - now
  if wait > answer[4] then answer[1], answer[4] = window, wait end
end

-- What the limits say of a request now, and the state if it is to be written whole.
local function judge(key, limits)
  local state = redis.call('GET', key)
  local whole = not state and NEW
  local until_ms, hour_sum, day_sum, hours, days = struct.unpack(HEAD, state or NEW)
  if state and (now >= until_ms or #state - 8 * (hours + days) >= HEAD_BYTES + 16 * limits[1]) then
    whole = folded(state, limits)
    until_ms, hour_sum, day_sum, hours, days = struct.unpack(HEAD, whole)
  end
  state = whole or state
  local day_at = HEAD_BYTES + 1 + 8 * hours
  local log = day_at + 8 * days
  local minute = minute_of(state, log, limits[1])
  local left = limits[1] - (#state + 1 - minute) / 8
  local lasts = minute < #state and time_at(state, minute) + MINUTE_MS - now or MINUTE_MS
  local answer = { 1, left, lasts, left == 0 and lasts or 0 }
  tighten(answer, 2, limits[2], state, HEAD_BYTES + 1, hours, hour_sum, log)
  tighten(answer, 3, limits[3], state, day_at, days, day_sum, log)
  if disabled then answer[4] = 0 end
  return answer, whole
end

local function take(key, limits, whole)
  if whole then
    local life = LIFE_MS[limits[3] > 0 and 3 or limits[2] > 0 and 2 or 1] + LOG_MS
    redis.call('SET', key, whole .. NOW, 'PX', life)
  else
    redis.call('APPEND', key, NOW)
  end
end

local policies = cmsgpack.unpack(ARGV[5])
local answers, wholes, at = {}, {}, 0
for request = 1, #ARGV[3] do
  local first, refused = at + 1, false
  for _ = 1, string.byte(ARGV[3], request) do
    at = at + 1
    answers[at], wholes[at] = judge(KEYS[at], policies[string.byte(ARGV[4], at)])
    refused = refused or answers[at][4] > 0
  end
  if not refused then
    for check = first, at do
      take(KEYS[check], policies[string.byte(ARGV[4], check)], wholes[check])
      answers[check][2] = math.max(answers[check][2] - 1, 0)
    end
  end
end
return cmsgpack.pack(answers)
