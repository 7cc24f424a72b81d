-- Counts a batch of attempts in their players' short windows, in order, and fixes the verdict
-- of each accepted one for a while.
--
-- KEYS  two per attempt, all of one shard: its player's window, its action's verdict
--       (the latter ends in the action's id of 36 characters)
-- ARGV  1 the clock's offset, 2 the window, 3 how long a verdict is kept (all in ms)
--       4 the most actions allowed in a window, 5 the most that are kept and returned
--       6 a digit per attempt: 1 accepted, 0 refused
-- Returns per attempt 0: no burst; 1: no burst when it was first judged; else a JSON list of
-- strings: the time of the judgement, then action and time of each in the window.
--
-- A window is one string of records, the oldest first: when an action was last judged (8 bytes)
-- and its id. A new one is appended. The string is written again, without expired records, when
-- an action comes again, and when the string is twice as old or as long as needed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local window, keep = tonumber(ARGV[2]), tonumber(ARGV[3])
local actions_max, seen_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local RECORD = 44
local NOW = struct.pack('>d', now)
-- A verdict stores its end beside the TTL and expires by it, since tests move the clock.
local ends = string.format('%.0f', now + keep)
local answers = {}

local function time_at(records, at)
  return (struct.unpack('>d', records, at))
end

-- The records in the window, the newest: at most `seen_max` with the one that is appended.
local function newest(records)
  local at = math.max(#records - (seen_max - 1) * RECORD, 0) + 1
  while at < #records and time_at(records, at) <= now - window do at = at + RECORD end
  return string.sub(records, at)
end

local function count(key, action)
  local record, records = NOW .. action, redis.call('GET', key) or ''
  -- No time contains the characters of an id, so an id is found in its own place only.
  local place = string.find(records, action, 1, true)
  local enough = #records >= 2 * seen_max * RECORD
  if place or enough or records == '' or time_at(records, 1) <= now - 2 * window then
    if place then
      records = string.sub(records, 1, place - 9) .. string.sub(records, place + 36)
    end
    records = newest(records)
    redis.call('SET', key, records .. record, 'PX', 3 * window)
  else
    redis.call('APPEND', key, record)
  end
  if #records < actions_max * RECORD then return nil end
  records = newest(records) .. record
  if #records <= actions_max * RECORD then return nil end
  local found = { string.format('%.0f', now) }
  for at = 1, #records, RECORD do
    found[#found + 1] = string.sub(records, at + 8, at + RECORD - 1)
    found[#found + 1] = string.format('%.0f', time_at(records, at))
  end
  return cjson.encode(found)
end

for i = 1, #KEYS, 2 do
  local verdict, known = KEYS[i + 1], false
  local accepted = string.byte(ARGV[6], (i + 1) / 2) == 49
  if accepted then
    known = redis.call('SET', verdict, ends, 'NX', 'GET', 'PX', keep)
    if known and tonumber(string.match(known, '^%d+')) <= now then
      redis.call('SET', verdict, ends, 'PX', keep)
      known = false
    end
  end
  if known then
    answers[#answers + 1] = string.match(known, '^%d+ (.*)$') or 1
  else
    local found = count(KEYS[i], string.sub(verdict, -36))
    if found and accepted then
      redis.call('SET', verdict, ends .. ' ' .. found, 'PX', keep)
    end
    answers[#answers + 1] = found or 0
  end
end
return answers
